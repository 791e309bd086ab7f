-- A NOT NULL time of 24:00 and an array of dates that is unavailable stop a connector, as do intervals of more hours than 32 bits count.
-- What is before 1582-10-15, and what has two dimensions, a connector misreads in arrays.
-- record structured: table.exclude.list=public.moments,public.domains time.precision.mode=structured key.converter.schemas.enable=true value.converter.schemas.enable=true unavailable.value.placeholder=hex:00ff41
-- record structured_plain: time.precision.mode=structured interval.handling.mode=string value.converter.replace.null.with.default=false column.exclude.list=public.keyed.t,public.keyed.iv
create type mood as enum('sad', 'ok');
create domain day as date default '2020-01-01';
create domain span as interval not null;
create table keyed(d date, ts timestamp(3), t time, ttz timetz, tstz timestamptz, iv interval, n int, primary key(d, ts, t, ttz, tstz, iv)); alter table keyed replica identity full;
create table keydef(d date default '2020-01-02', t time(0) default '01:02:03', n int, v text not null, primary key(d, t));
create table moments(id int primary key, d date, t time, t0 time(0), tz timetz, tz0 timetz(0), ts timestamp, ts1 timestamp(1), tstz timestamptz, tstz0 timestamptz(0), iv interval, iv0 interval(0), ym interval year to month, dm interval day to second(3));
create table musts(id int primary key, d date not null, t time not null, t0 time(0) not null, tz timetz not null, tz0 timetz(0) not null, ts timestamp not null, ts1 timestamp(1) not null, tstz timestamptz not null, tstz0 timestamptz(0) not null, iv interval not null, iv0 interval(0) not null, ym interval year to month not null);
create table lists(id int primary key, d date[], t time[], t0 time(0)[], tz timetz[], tz3 timetz(3)[], ts timestamp[], ts3 timestamp(3)[], tstz timestamptz[], tstz0 timestamptz(0)[], iv interval[], must date[] not null, musts timestamptz[] not null);
create table domains(id int primary key, d day, s span, ds day not null default '2021-01-01');
create table starts(id int primary key, d date default '2020-01-02', d2 date default 'infinity', d3 date default current_date, t time default '01:02:03.5', t2 time default '24:00', tz timetz default '01:02:03+02', tz0 timetz(0) default '24:00+00', ts timestamp default '2020-01-02 03:04:05.678901', ts2 timestamp default '-infinity', ts3 timestamp default localtimestamp, tstz timestamptz default '2020-01-02 03:04:05.5+00', tstz2 timestamptz default 'infinity', tstz3 timestamptz default now(), iv interval default '1 year 2 mons 3 days 04:05:06.789', iv2 interval default make_interval(days => 1), ds date[] default '{2020-01-01}', md date not null default '2020-01-02', mt time not null default '01:02:03', mtz timetz not null default '01:02:03+02', mts timestamp(3) not null default '2020-01-02 03:04:05', mtstz timestamptz not null default '2020-01-02 03:04:05+00', miv interval not null default '2 hours', mnow date not null default current_date);
create table large(id int primary key, n int, d date[], ts timestamp[], tstz timestamptz[], t time[], tz timetz[], ta text[], ia int[], la bigint[], ua uuid[], ba bytea, v text, mt text not null, mb bytea not null);
do $$ declare c text; begin for c in select attname from pg_attribute where attrelid = 'large'::regclass and attnum > 2 and attstorage in ('x', 'm') loop execute format('alter table large alter %I set storage external', c); end loop; end $$;
alter table large set (toast_tuple_target = 128);
create publication pub for all tables;
insert into keydef(n, v) values (1, 'x');
-- STREAM
insert into keyed values ('2020-01-02', '2020-01-02 03:04:05.678', '01:02:03.5', '01:02:03.25+02', '2020-01-02 03:04:05.6+00', '1 year 2 days 03:00:00', 1);
-- TX
update keyed set n = 2;
-- TX
update keyed set d = '0044-03-15 BC', ts = '1969-12-31 23:59:59.999', n = 3;
-- TX
update keyed set d = 'infinity', ts = '-infinity', tstz = 'infinity', t = '00:00', ttz = '24:00-15:59:59', iv = '-1 mon';
-- TX
delete from keyed;
-- TX
insert into keydef(n, v) values (2, 'y') on conflict do nothing; insert into keydef values ('2021-03-04', '05:06:07', 3, 'z'); update keydef set t = '05:06:08' where n = 3; delete from keydef where n = 3;
-- TX
insert into moments(id) values (1);
insert into moments values (2, '2020-02-29', '23:59:59.999999', '23:59:59', '23:59:59.999999+15:59', '12:00-00:30', '2020-02-29 23:59:59.999999', '2020-02-29 23:59:59.9', '2020-02-29 23:59:59.999999+00', '2020-02-29 23:59:59+00', '1 year 14 mons 40 days 100:59:59.999999', '5.6 seconds', '3 years 4 mons', '3 days 04:05:06.789123');
insert into moments values (3, 'infinity', '24:00', '24:00', '24:00-05', '24:00+05:30:15', 'infinity', 'infinity', 'infinity', 'infinity', '178000000 years', '-1 year -2 mons', '-3 years 4 mons', '-3 days 04:05:06');
insert into moments values (4, '-infinity', null, null, '00:00+00:00:01', '00:00-15:59:59', '-infinity', '-infinity', '-infinity', '-infinity', '-178000000 years', '2147483647 days', '-1 mon', '-00:00:00.001');
insert into moments values (5, '4713-01-01 BC', null, null, null, null, '4713-01-01 00:00:00 BC', '0001-12-31 23:59:59.9 BC', '4713-01-01 00:00:00+00 BC', '0001-12-31 23:59:59+00 BC', '2147483647:00:54.775807', '-2147483647:59:54', null, '00:00:01.0005');
insert into moments values (6, '5874897-12-31', null, null, null, null, '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.9', '294276-12-31 23:59:59.999999+00', '294276-12-31 23:59:59+00', '1 day -00:00:00.000001', '-1 day 00:00:01', null, null);
insert into moments values (7, '0001-01-01', null, null, null, null, '0001-01-01', '0001-01-01', '0001-01-01+00', '0001-01-01+00', '00:00:16.1', '-00:00:01.9', null, null), (8, '40000-01-01', null, null, null, null, '32768-01-01', '10000-01-01', '10000-01-01 00:00:00.00001+00', '100000-01-01+00', '00:00:35.000001', null, null, null);
-- TX
insert into musts values (1, '2020-01-01', '01:00', '01:00', '01:00+01', '01:00+01', '2020-01-01', '2020-01-01', '2020-01-01+00', '2020-01-01+00', '1 day', '1 day', '1 mon'), (2, 'infinity', '23:59:59.999999', '23:59:59', '24:00+01', '24:00+01', 'infinity', '-infinity', 'infinity', '-infinity', '0', '0', '0');
-- TX
update musts set id = 3 where id = 1;
-- TX
delete from musts where id = 2;
-- TX
insert into lists(id, must, musts) values (1, '{}', '{}');
insert into lists values (2, '{2020-01-02,NULL,5874897-12-31}', '{01:02:03.456789,NULL,23:59:59.999999}', '{01:02:03,23:59:59}', '{01:02:03.456789+02,NULL,01:00-05:30}', '{01:02:03.456+00}', '{2020-01-02 03:04:05.678901,NULL,1969-12-31 23:59:59.999999}', '{2020-01-02 03:04:05.678}', '{2020-01-02 03:04:05.678901+02,NULL,1969-12-31 23:59:59.999999+00}', '{2020-01-02 03:04:05+00}', '{1 day}', '{2020-01-01}', '{2020-01-01+00}');
insert into lists values (3, '{infinity}', '{24:00}', '{24:00}', '{24:00+00}', '{00:00+00:00:01}', '{infinity}', '{infinity}', '{infinity}', '{infinity}', '{}', '{NULL}', '{NULL}');
insert into lists values (4, '{-infinity}', '{}', '{}', '{24:00+05}', '{24:00-05:30}', '{-infinity}', '{-infinity}', '{-infinity}', '{-infinity}', null, '{-infinity}', '{-infinity}');
insert into lists values (5, '{1582-10-15,1900-01-01}', '{00:00,12:00:00.0005}', null, '{00:00:00.0005-12,13:00:00.123999+01}', '{13:00:00.9+14}', '{20000-02-03 01:02:03.4,1582-10-15 00:00:00.5}', '{}', '{294276-12-31 23:59:59.999999+00,1582-10-15 00:00:00.5+00}', '{20000-02-03 01:02:03+00}', null, '{}', '{}');
-- TX
update lists set id = 12 where id = 2;
-- TX
insert into domains values (1, '2020-01-02', '1 day', 'infinity'), (2, null, '0', '0044-03-15 BC');
-- TX
delete from domains;
-- TX
insert into starts(id) values (1);
insert into starts(id, d, d2, d3, t, t2, tz, tz0, ts, ts2, ts3, tstz, tstz2, tstz3, iv, iv2, ds) values (2, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
-- TX
delete from starts where id = 2;
-- TX
insert into large select 1, 1, array_fill(date '2020-01-01', array[40]), array_fill(timestamp '2020-01-01', array[25]), array_fill(timestamptz '2020-01-01+00', array[25]), array_fill(time '01:00', array[40]), array_fill(timetz '01:00+00', array[40]), array[repeat('x', 200)], array_fill(7, array[40]), array_fill(7::bigint, array[25]), array_fill(uuid '6f1c1f0e-1111-4222-8333-444455556666', array[10]), repeat('x', 200)::bytea, repeat('x', 200), repeat('x', 200), repeat('x', 200)::bytea;
-- TX
update large set n = 2;
-- TX
delete from large;
