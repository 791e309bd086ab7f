-- topic gold.all 12
-- record router12: transforms=route transforms.route.type=io.debezium.transforms.ByLogicalTableRouter 'transforms.route.topic.regex=(.*)public.*' transforms.route.topic.replacement=gold.all
-- record router12_bare: transforms=route transforms.route.type=io.debezium.transforms.ByLogicalTableRouter 'transforms.route.topic.regex=(.*)public.*' transforms.route.topic.replacement=gold.all transforms.route.key.enforce.uniqueness=false
-- record router12_field: transforms=route transforms.route.type=io.debezium.transforms.ByLogicalTableRouter 'transforms.route.topic.regex=(.*)public\.(shard)_.*' 'transforms.route.topic.replacement=gold.all' transforms.route.key.field.name=origin 'transforms.route.key.field.regex=(.*)public\.(.*)' 'transforms.route.key.field.replacement=$2'
create table shard_a(id bigint primary key, v text);
create table shard_b(id bigint primary key, v text);
create table pair(a int, b text, primary key(a, b));
create table nokey(a int, v text);
create table plain(id uuid primary key);
create publication pub for all tables;
insert into shard_a values (1, 'snapshot'), (2, 'snapshot');
insert into shard_b values (1, 'snapshot');
insert into nokey values (1, 'snapshot');
-- STREAM
insert into shard_a select id, 'a' from generate_series(3, 20) id;
-- TX
insert into shard_b select id, 'b' from generate_series(2, 12) id;
-- TX
insert into pair values (1, 'x'), (2, 'ключ'), (3, 'q"');
-- TX
insert into nokey values (2, 'one'), (3, 'two'), (4, 'three');
-- TX
insert into plain values ('6f1c1f0e-1111-4222-8333-444455556666');
-- TX
update shard_a set v = 'changed' where id = 3;
-- TX
update shard_a set id = 33 where id = 4;
-- TX
delete from shard_b where id = 2;
