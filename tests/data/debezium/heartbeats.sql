-- record heartbeats: heartbeat.interval.ms=100 'heartbeat.action.query=insert into beats(at) values (now())'
-- record heartbeats_named: heartbeat.interval.ms=100 topic.heartbeat.prefix=pulse provide.transaction.metadata=true key.converter.schemas.enable=true value.converter.schemas.enable=true
create table a(id int primary key);
create table beats(id serial primary key, at timestamptz);
create publication pub for table a;
insert into a values (1);
-- STREAM
insert into a values (2);
-- TX
select pg_sleep(0.5);
-- TX
insert into a values (3);
-- TX
insert into beats(at) values (null);
-- TX
select pg_sleep(0.5);
