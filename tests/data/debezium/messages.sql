-- record messages:
-- record messages_tx: provide.transaction.metadata=true table.exclude.list=public.hidden
-- record messages_tx_schemas: provide.transaction.metadata=true key.converter.schemas.enable=true value.converter.schemas.enable=true skipped.operations=none
-- record messages_hex: provide.transaction.metadata=true binary.handling.mode=hex message.prefix.exclude.list=noise topic.transaction=deals tombstones.on.delete=false
create table a(id int primary key, v text);
create table b(id int primary key, v text);
create table c_third(id int primary key, v text);
create table "D d"(id int primary key, v text);
create table hidden(id int primary key);
create publication pub for all tables;
insert into a values (1, 'snapshot'), (2, 'snapshot');
insert into b values (1, 'snapshot');
-- STREAM
select pg_logical_emit_message(true, 'alone', 'one'), pg_logical_emit_message(true, 'alone', 'two');
-- TX
select pg_logical_emit_message(false, 'outside', 'three');
-- TX
insert into a values (3, 'row'); select pg_logical_emit_message(true, 'between', 'rows'); insert into b values (3, 'row');
-- TX
insert into a values (4, 'row'); select pg_logical_emit_message(false, 'at once', 'before the rows of its transaction'); insert into b values (4, 'row');
-- TX
select pg_logical_emit_message(true, 'bytes', '\x00ff80'::bytea), pg_logical_emit_message(true, 'empty', ''), pg_logical_emit_message(true, '', 'no prefix'), pg_logical_emit_message(true, 'ключ "q"', 'ключ');
-- TX
select pg_logical_emit_message(true, 'noise', 'x'); insert into a values (5, 'row');
-- TX
do $$ begin begin insert into a values (90, 'gone'); perform pg_logical_emit_message(true, 'gone', 'x'); perform pg_logical_emit_message(false, 'stays', 'x'); raise division_by_zero; exception when division_by_zero then null; end; insert into a values (6, 'kept'); end $$;
-- TX
update a set id = 33 where id = 3; delete from a where id = 4; update b set v = 'new' where id = 3;
-- TX
insert into c_third values (1, 'x'); insert into "D d" values (1, 'x'); insert into b values (7, 'x'); insert into a values (7, 'x'); insert into c_third values (2, 'x');
-- TX
insert into hidden values (1);
-- TX
insert into hidden values (2); insert into a values (8, 'beside');
-- TX
truncate a, b;
