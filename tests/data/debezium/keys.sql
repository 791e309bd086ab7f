-- record keys:
-- record keys_columns: 'message.key.columns=public.nopk:a,b;public.wide:n,v;public.full_pk:v;(.*).Odd Name:a.b' column.exclude.list=public.wide.secret,public.wide.must,public.excluded.a
-- record keys_delimiter: topic.delimiter=_ extended.headers.enabled=false tombstones.on.delete=false
-- record keys_avro: schema.name.adjustment.mode=avro field.name.adjustment.mode=avro key.converter.schemas.enable=true value.converter.schemas.enable=true table.include.list=public.Odd.*,public.Таблица,public.pk
-- record keys_include: 'column.include.list=public\.wide\.(id|v),public\.pk\..*,public\.excluded\.b' 'table.exclude.list=other\..*,public.Odd_Name' skipped.operations=u,t
-- record keys_masks: column.mask.with.5.chars=public.wide.v,public.wide.n,public.pk.v column.truncate.to.3.chars=public.wide.secret,public.pk.id column.mask.hash.v2.SHA-256.with.salt.pepper=public.ri_full.v column.mask.hash.SHA-256.with.salt.pepper=public.ri_index.v
create schema other;
create table nopk(a int, b text);
create table nopk_full(a int, b text); alter table nopk_full replica identity full;
create table pk(id varchar(9) primary key, v text);
create table wide(id int primary key, n int, v text, secret text default 'hush', must int not null default 7);
create table excluded(a int, b int, v text, primary key(b, a));
create table reversed(a int, b int, v text, primary key(b, a));
create table uniq(a int not null, b text not null, v text); create unique index uniq_ab on uniq(b, a); alter table uniq replica identity using index uniq_ab;
create table uniq_two(a int not null, b int not null, v text); create unique index z_first on uniq_two(a); create unique index a_second on uniq_two(b); alter table uniq_two replica identity full;
create table uniq_null(a int, v text); create unique index uniq_null_a on uniq_null(a); alter table uniq_null replica identity full;
create table uniq_partial(a int not null, b int not null, v text); create unique index uniq_partial_a on uniq_partial(a) where b > 0; create unique index uniq_partial_e on uniq_partial((a + b)); alter table uniq_partial replica identity full;
create table uniq_include(a int not null, b int not null, v text); create unique index uniq_include_a on uniq_include(a) include (b); alter table uniq_include replica identity full;
create table ri_full(id int primary key, v text, n int not null); alter table ri_full replica identity full;
create table full_pk(id int primary key, v text); alter table full_pk replica identity full;
create table ri_index(id int primary key, u int not null, v text, n int not null); create unique index ri_index_u on ri_index(u); alter table ri_index replica identity using index ri_index_u;
create table ri_nothing(id int primary key, v text); alter table ri_nothing replica identity nothing;
create table "Odd Name"("Id" int, "ключ" text, "a.b" text, "sp ace" int, "1st" int, "d-ash" int, primary key("Id", "ключ"));
create table "Odd_Name"("Id" int primary key);
create table "Таблица"(id int primary key, "$x" int);
create table other.pk(id int primary key, v text);
create table "tab""le"("c""ol" int primary key);
create publication pub for all tables;
insert into nopk values (1, 'snapshot');
insert into "Odd Name" values (1, 'с', 'x', 1, 2, 3);
insert into uniq values (1, 'snapshot', 'x');
-- STREAM
insert into nopk values (2, 'x'), (null, null);
insert into nopk_full values (1, 'x'), (2, null);
insert into pk values ('a', 'x'), ('abcdef', 'y');
insert into wide values (1, 1, 'long text', 'secret', 1), (2, null, null, null, 2);
insert into excluded values (1, 2, 'x');
insert into reversed values (1, 2, 'x');
insert into uniq values (2, 'y', 'x');
insert into uniq_two values (1, 2, 'x');
insert into uniq_null values (1, 'x'), (null, 'y');
insert into uniq_partial values (1, 2, 'x');
insert into uniq_include values (1, 2, 'x');
insert into ri_full values (1, 'x', 5);
insert into full_pk values (1, 'x');
insert into ri_index values (1, 10, 'x', 5);
insert into ri_nothing values (1, 'x');
insert into "Odd Name" values (2, 'ю', 'y', 1, 2, 3);
insert into "Odd_Name" values (2);
insert into "Таблица" values (1, 2);
insert into other.pk values (1, 'x');
insert into "tab""le" values (1);
-- TX
update nopk_full set b = 'y' where a = 1; update nopk_full set a = 3 where a = 2; delete from nopk_full;
-- TX
update pk set v = 'y' where id = 'a'; update pk set id = 'b' where id = 'a'; delete from pk;
-- TX
update wide set n = 2 where id = 1; update wide set v = 'other' where id = 1; update wide set id = 3 where id = 1; delete from wide;
-- TX
update excluded set v = 'y'; update excluded set a = 3; update excluded set b = 4; delete from excluded;
-- TX
update reversed set v = 'y'; update reversed set a = 3; delete from reversed;
-- TX
update uniq set v = 'y' where a = 2; update uniq set a = 3 where a = 2; delete from uniq;
-- TX
update uniq_two set v = 'y'; update uniq_two set a = 5; update uniq_two set b = 6; delete from uniq_two;
-- TX
update uniq_null set v = 'z' where a = 1; update uniq_null set a = 2 where a = 1; delete from uniq_null;
-- TX
update uniq_partial set a = 2; delete from uniq_partial;
-- TX
update uniq_include set a = 2; update uniq_include set b = 3; delete from uniq_include;
-- TX
update ri_full set v = 'y'; update ri_full set id = 2; update ri_full set id = 3, v = 'z'; delete from ri_full;
-- TX
update full_pk set v = 'y'; update full_pk set id = 2; delete from full_pk;
-- TX
update ri_index set v = 'y'; update ri_index set u = 11; update ri_index set id = 2; update ri_index set id = 3, u = 12; delete from ri_index;
-- TX
update "Odd Name" set "a.b" = 'z' where "Id" = 2; update "Odd Name" set "ключ" = 'ъ' where "Id" = 2; delete from "Odd Name";
-- TX
delete from "Таблица"; delete from "tab""le"; update other.pk set id = 2;
-- TX
truncate nopk, pk;
