-- record drift:
-- record drift_root: publication.name=pub_root
-- record drift_schemas: key.converter.schemas.enable=true value.converter.schemas.enable=true provide.transaction.metadata=true
create table cols(id int primary key, a int, b text, c numeric(6,2));
create table keyed(id int primary key, v text);
create table gen(id int primary key, a int, doubled int generated always as (a * 2) stored, ident int generated always as identity);
create table parent(id int, day date, v text, primary key(id, day)) partition by range (day);
create table parent_old partition of parent for values from ('2020-01-01') to ('2021-01-01');
create table parent_new partition of parent for values from ('2021-01-01') to ('2022-01-01');
create table base(id int primary key, v text); create table child(extra int) inherits (base); alter table child add primary key (id);
create unlogged table unlogged(id int primary key);
create view v_cols as select * from keyed;
create materialized view m_cols as select * from keyed;
create publication pub for all tables;
create publication pub_root for all tables with (publish_via_partition_root = true);
insert into cols values (1, 1, 'x', 1);
insert into gen(id, a) values (1, 5);
insert into parent values (1, '2020-05-05', 'snapshot');
-- STREAM
insert into cols values (2, 2, 'y', 2);
-- TX
alter table cols rename column b to bb;
-- TX
update cols set a = 3 where id = 2;
-- TX
alter table cols add column d int default 5, add column e text not null default 'filled';
-- TX
update cols set a = 4 where id = 2; insert into cols(id) values (3);
-- TX
alter table cols alter column a type bigint, alter column c type numeric(10,4);
-- TX
update cols set a = 10000000000 where id = 2;
-- TX
alter table cols alter column a type text using a::text; update cols set bb = $$$$ where bb is null;
-- TX
alter table cols alter column bb set not null;
-- TX
delete from cols where id = 2;
-- TX
insert into cols(id, a, bb) values (5, 'first', 'x'); alter table cols drop column c; insert into cols(id, a, bb) values (6, 'second', 'x'); alter table cols add column c int; insert into cols(id, a, bb, c) values (7, 'third', 'x', 1);
-- TX
alter table cols alter column d set default 6; insert into cols(id, bb) values (8, 'x'); update cols set d = null where id = 8;
-- TX
alter table cols rename to cols_renamed;
-- TX
insert into cols_renamed(id, bb) values (9, 'x');
-- TX
alter table keyed drop constraint keyed_pkey; alter table keyed add primary key (id, v);
-- TX
insert into keyed values (1, 'x'); update keyed set v = 'y'; delete from keyed;
-- TX
alter table keyed drop constraint keyed_pkey; insert into keyed values (2, 'no key');
-- TX
insert into gen(id, a) values (2, 7); update gen set a = 8 where id = 2; delete from gen where id = 2;
-- TX
insert into parent values (2, '2020-06-06', 'x'), (3, '2021-06-06', 'y'); update parent set day = '2021-07-07' where id = 2; delete from parent where id = 3;
-- TX
create table parent_next partition of parent for values from ('2022-01-01') to ('2023-01-01'); insert into parent values (4, '2022-02-02', 'new partition');
-- TX
insert into base values (1, 'base'); insert into child values (2, 'child', 5); update base set v = 'both';
-- TX
create table born(id int primary key, v text default 'x'); insert into born values (1); drop table born;
-- TX
create table born(id bigint primary key, w int); insert into born values (2, 3);
-- TX
create schema far; create table far.away(id int primary key); insert into far.away values (1); alter table far.away set schema public; insert into away values (2);
-- TX
truncate parent;
