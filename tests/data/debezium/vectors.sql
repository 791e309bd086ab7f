-- postgres 18
-- record vectors:
-- record vectors_schemas: key.converter.schemas.enable=true value.converter.schemas.enable=true
create extension vector;
create table vec(id int primary key, v vector(3), va vector, h halfvec(3), s sparsevec(25), vs vector[]);
create table vecnot(id int primary key, v vector not null, h halfvec not null, s sparsevec not null, d vector(2) default '[1,2]');
create table gen(id int primary key, a int, stored int generated always as (a * 2) stored, virt int generated always as (a * 3) virtual);
create publication pub for all tables with (publish_generated_columns = stored);
insert into vec values (1, '[1,2,3]', '[1.5]', '[1,2,3.5]', '{1:10,11:20}/25', '{"[1,2]"}');
insert into gen values (1, 5);
-- STREAM
insert into vec values (2, '[0.1,-1e-5,1e10]', '[0.1,3.4e38]', '[0.1,-0.25,65504]', '{}/25', '{}'), (3, null, null, null, null, null);
-- TX
insert into vecnot(id, v, h, s) values (1, '[1]', '[1]', '{1:1}/1');
-- TX
insert into gen values (2, 7); update gen set a = 8 where id = 2; delete from gen where id = 2;
-- TX
insert into vecnot(id, v, h, s) values (3, '[1]', '[1]', '{3:1.5,1:0.1}/3');
