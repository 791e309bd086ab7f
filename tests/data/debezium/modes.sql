-- record modes:
-- record modes_schemas: key.converter.schemas.enable=true value.converter.schemas.enable=true
-- A NOT NULL bytea that is unavailable stops a connector in binary.handling.mode=base64: table toastb is out of its reach.
-- record modes_string: table.exclude.list=public.toastb decimal.handling.mode=string interval.handling.mode=string hstore.handling.mode=map binary.handling.mode=base64 time.precision.mode=isostring include.unknown.datatypes=true value.converter.replace.null.with.default=false
-- record modes_double: decimal.handling.mode=double hstore.handling.mode=json binary.handling.mode=hex time.precision.mode=adaptive_time_microseconds include.unknown.datatypes=true money.fraction.digits=4
-- record modes_connect: table.exclude.list=public.toastb time.precision.mode=connect binary.handling.mode=base64-url-safe value.converter.decimal.format=NUMERIC money.fraction.digits=0 unavailable.value.placeholder=hex:00ff41 hstore.handling.mode=map
-- record modes_micro: time.precision.mode=microseconds unavailable.value.placeholder=gone
-- The fallback of a NOT NULL timestamp is wrong for nanoseconds, and the connector stops.
-- record modes_nano: table.exclude.list=public.notnulls time.precision.mode=nanoseconds
-- record modes_structured: time.precision.mode=structured interval.handling.mode=string
create extension hstore;
create type mood as enum('sad', 'ok');
create type pair as (a int, b text);
create table nums(id int primary key, n2 numeric(10,2), n5 numeric(38,5), n numeric, m money, d double precision, r real);
create table days(id int primary key, d date, t time, t3 time(3), t0 time(0), tz timetz, tz2 timetz(2), ts timestamp, ts3 timestamp(3), ts0 timestamp(0));
create table zoned(id int primary key, tstz timestamptz, tstz3 timestamptz(3), tstz0 timestamptz(0), iv interval, iv0 interval day to second(0));
create table bins(id int primary key, ba bytea, b1 bit(1), b9 bit(9), vb varbit, vb1 varbit(1), bas bytea[]);
create table odd(id int primary key, tq tsquery, l pg_lsn, p pair, hs hstore, mr int4multirange, ts txid_snapshot, x xid, jp jsonpath, rc regclass, moneys money[], names name[], intervals interval[], vbs varbit[], xmls xml[], points point[], last text);
create table arrs(id int primary key, s smallint[], f float4[], n numeric(6,1)[], nn numeric[], d date[], t time[], t3 time(3)[], tz timetz[], ts timestamp[], ts3 timestamp(3)[], tstz timestamptz[], hs hstore[], o oid[], c char(3)[], i inet[], r int4range[], two int[][]);
create table notnulls(id int primary key, o oid not null, d double precision not null, n numeric(8,3) not null, nn numeric not null, m money not null, b1 bit(1) not null, b9 bit(9) not null, vb varbit not null, ba bytea not null, dt date not null, t time not null, t3 time(3) not null, ttz timetz not null, ts timestamp not null, ts3 timestamp(3) not null, tstz timestamptz not null, iv interval not null, hs hstore not null, x xml not null, i inet not null, mac macaddr not null, r int4range not null, e mood not null, q "char" not null, tv tsvector not null, ar numeric[] not null, tr text[] not null);
create table defs(id int primary key, n2 numeric(6,2) default 1.5, n numeric default 2.50, m money default '$1.50', iv interval default '1 day 00:00:01', hs hstore default 'a=>1', ba bytea default '\x00ff', b9 bit(9) default B'000000011', dt date default '2020-01-02', t time default '01:02:03.5', t3 time(3) default '01:02:03.5', ttz timetz default '01:02:03+02', ts timestamp default '2020-01-02 03:04:05.678901', ts3 timestamp(3) default '2020-01-02 03:04:05.678', tstz timestamptz default '2020-01-02 03:04:05+00', u uuid default '6f1c1f0e-1111-4222-8333-444455556666', e mood default 'ok', ar int[] default '{1,2}', tr text[] default array['a','b'], r real default 1.5, d double precision default 1e10, b bigint default -5, c char(4) default 'ab', bo boolean default false, s smallint default 3, must numeric(6,2) not null default 9.99, mustn numeric not null default 7, mustt timestamp not null default '2020-01-02 03:04:05', mustnow timestamptz not null default now(), mustb boolean not null default true, mustiv interval not null default '2 hours', musttx text not null default 'it''s', expr int default 1 + 2, expr2 text default lower('ABC'));
create table toast(id int primary key, n int, t text, v varchar, bp char(100), ba bytea, j json, jb jsonb, x xml, num numeric, hs hstore, ta text[], va varchar[], ca char(4)[], ja jsonb[], baa bytea[], ia int[], la bigint[], sa smallint[], fa float8[], na numeric[], da date[], tsa timestamp[], tza timestamptz[], ua uuid[], boa boolean[], ea mood[], tv tsvector, must text not null);
do $$ declare c text; begin for c in select attname from pg_attribute where attrelid = 'toast'::regclass and attnum > 2 and attstorage in ('x', 'm') loop execute format('alter table toast alter %I set storage external', c); end loop; end $$;
alter table toast set (toast_tuple_target = 128);
create table toastb(id int primary key, n int, ba bytea not null); alter table toastb alter ba set storage external;
create publication pub for all tables;
insert into nums values (1, 1.10, 12345.678, 10.1111, '$1,234.11', 0.1, 0.1);
insert into days values (1, '2016-11-04', '13:51:30.123456', '13:51:30.123', '13:51:30', '13:51:30.123789+02', '13:51:30.12-05:30', '2016-11-04 13:51:30.123456', '2016-11-04 13:51:30.123', '2016-11-04 13:51:30');
insert into zoned values (1, '2016-11-04 13:51:30.123456+02', '2016-11-04 13:51:30.123+02', '2016-11-04 13:51:30+02', '1 year 2 mons 3 days 04:05:06.78', '3 days 04:05:06');
insert into bins values (1, '\x00ff10fbefbe', '1', '100000001', '101', '1', array['\x01'::bytea, null, '\xfbff']);
insert into odd values (1, 'fat & rat', '0/16B3748', '(1,x)', 'a=>1,b=>NULL', '{[1,3),[5,9)}', '10:20:10,14', '7', '$.a[*]', 'pg_class', '{$1.00}', '{ab}', '{1 day}', '{101}', '{<a/>}', '{"(1,2)"}', 'last');
insert into arrs values (1, '{1,null}', '{1.5}', '{1.2,3}', '{1.1,22.20}', '{2016-11-04}', '{13:51:30.123456}', '{13:51:30.123}', '{13:51:30+02}', '{2016-11-04 13:51:30.123456}', '{2016-11-04 13:51:30.123}', '{2016-11-04 13:51:30.5+02}', array['a=>1'::hstore], '{5}', '{ab}', '{10.0.0.1}', array['[1,3)'::int4range], '{{1,2},{3,4}}');
insert into defs(id) values (1);
-- STREAM
insert into nums values (2, -0.01, 0, 100, '-$0.01', 1e22, 1e-5), (3, 99999999.99, -1.28, -0.00001, '$92,233,720,368,547,758.07', -1e-7, 3.4e38), (4, null, null, null, null, null, null), (5, 0, 1, 1200, 0, 'NaN', 'Infinity'), (6, 5, 5, 0, 0.05, '-Infinity', 'NaN');
-- TX
insert into days values (2, '1970-01-01', '00:00', '00:00', '00:00', '00:00+00', '00:00+00', '1970-01-01', '1970-01-01', '1970-01-01'), (3, '0044-03-15 BC', '23:59:59.999999', '23:59:59.999', '24:00', '24:00+00', '23:59:59.99-15', '0044-03-15 12:00:00.000001 BC', '0044-03-15 12:00:00.001 BC', '0044-03-15 12:00:01 BC'), (4, 'infinity', '24:00', '24:00', null, null, null, 'infinity', 'infinity', 'infinity'), (5, '-infinity', null, null, null, null, null, '-infinity', '-infinity', '-infinity'), (6, '9999-12-31', '00:00:00.000001', '00:00:00.001', '00:00:01', '00:00:00.000001-15:59:59', '01:00+15:59', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59'), (7, '1582-10-10', null, null, null, null, null, '1582-10-10 01:02:03', '1500-01-01', '1900-01-01'), (8, '1969-12-31', null, null, null, null, null, '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999', '1969-12-31 23:59:59'), (9, '20000-02-03', null, null, null, null, null, '20000-02-03 01:02:03.4', '20000-02-03 01:02:03.4', '20000-02-03');
-- TX
insert into zoned values (2, '1970-01-01+00', '1970-01-01+00', '1970-01-01+00', '0', '0'), (3, '0044-03-15 12:00:00.000001+00 BC', '0044-03-15 12:00:00.1+00 BC', '0044-03-15 12:00:01+00 BC', '-1 day -00:00:01.5', '-1 day -1'), (4, 'infinity', 'infinity', 'infinity', '-1 year 2 mons -3 days 04:05:06', null), (5, '-infinity', '-infinity', '-infinity', '100 years 00:00:00.000001', null), (6, '20000-02-03 01:02:03.4+00', '20000-02-03 01:02:03.4+00', '20000-02-03 01:02:03+00', '-00:00:00.5', '1 day'), (7, null, null, null, null, null), (8, '1500-01-01 00:00:00+00', '1900-01-01 00:00:00.12+00', '2020-01-01 00:00:00+00', '1 mon', '100 days 25:00:00');
-- TX
insert into bins values (2, '', '0', '000000000', '', '', '{}'), (3, null, null, null, null, null, null), (4, '\xdeadbeef', '1', '011111111', '1000000000000001', '0', null);
-- TX
insert into odd(id, last) values (2, 'only');
insert into odd values (3, '', '0/0', '(,)', '', '{}', '1:1:', '0', '$', 0, '{}', '{}', '{}', '{}', '{}', '{}', 'empty');
-- TX
insert into arrs(id) values (2);
insert into arrs values (3, '{}', '{NaN,-Infinity}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'), (4, '{1,2}', '{1e10,null}', '{null,-1.5}', '{null,100,1e3}', '{null,0044-03-15 BC}', '{null,00:00}', '{null,00:00}', '{null,00:00+00}', '{null,1970-01-01}', '{null,1970-01-01}', '{null,1970-01-01+00}', array[null, '"x y"=>NULL'::hstore], '{null}', '{null,"q\"\\"}', '{null}', array[null, 'empty'::int4range], '{1}');
-- TX
insert into notnulls values (1, 1, 1, 1, 1, 1, '1', '100000001', '1', '\x01', '2020-01-01', '01:00', '01:00', '01:00+00', '2020-01-01', '2020-01-01', '2020-01-01+00', '1 day', 'a=>1', '<a/>', '10.0.0.1', '08:00:2b:01:02:03', '[1,2)', 'ok', 'q', 'a', '{1}', '{a}');
-- TX
update notnulls set id = 2;
-- TX
delete from notnulls;
-- TX
insert into defs(id) values (2);
insert into defs(id, n2, n, m, iv, hs, ba, b9, dt, t, t3, ttz, ts, ts3, tstz, u, e, ar, tr, r, d, b, c, bo, s, expr, expr2) values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
-- TX
delete from defs where id = 3;
-- TX
insert into toast select 1, 1, repeat('x', 100), repeat('x', 100), repeat('x', 100), repeat('x', 100)::bytea, to_json(repeat('x', 100)), to_jsonb(repeat('x', 100)), ('<a>' || repeat('x', 100) || '</a>')::xml, 10::numeric ^ 200 + 1, hstore('a', repeat('x', 100)), array[repeat('x', 100)], array[repeat('x', 100)], array_fill('abcd'::char(4), array[25]), array[to_jsonb(repeat('x', 100))], array[repeat('x', 100)::bytea], array_fill(7, array[25]), array_fill(7::bigint, array[25]), array_fill(7::smallint, array[50]), array_fill(7.5::float8, array[25]), array_fill(7.5::numeric, array[25]), array_fill(date '2020-01-01', array[25]), array_fill(timestamp '2020-01-01', array[25]), array_fill(timestamptz '2020-01-01+00', array[25]), array_fill(uuid '6f1c1f0e-1111-4222-8333-444455556666', array[8]), array_fill(true, array[100]), array_fill('ok'::mood, array[25]), (select string_agg('w' || i, ' ') from generate_series(1, 25) i)::tsvector, repeat('x', 100);
-- TX
update toast set n = 2;
-- TX
update toast set id = 2;
-- TX
delete from toast;
-- TX
insert into toastb values (1, 1, repeat('x', 2100)::bytea);
-- TX
update toastb set n = 2;
