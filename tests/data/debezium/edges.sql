-- record edges:
-- record edges_connect: time.precision.mode=connect decimal.handling.mode=double money.fraction.digits=4 binary.handling.mode=hex include.unknown.datatypes=true key.converter.schemas.enable=true
-- record edges_nano: time.precision.mode=nanoseconds
create extension isn;
create type mood as enum('sad', 'q''uo');
create domain title as name;
create table floats(id int primary key, r real, d double precision);
create table arrs(id int primary key, t time[], t3 time(3)[], i isbn[], l pg_lsn[], n numeric(4,2)[], ov oidvector, iv int2vector, last text);
create table days(id int primary key, ts timestamp, ts3 timestamp(3));
create table titles(id int primary key, must title not null, may title);
create table defs(id int primary key, n int, b bit(4) default 5::bit(4), e mood default 'q''uo', num numeric default 7);
alter table defs alter num set storage external; alter table defs set (toast_tuple_target = 128);
create table k_numeric(k numeric(10,2) primary key, v int);
create table k_double(k double precision primary key, v int);
create table k_numerics(k numeric(6,2)[] primary key, v int);
create table k_doubles(k float8[] primary key, v int);
create table k_money(k money primary key, v int);
create table k_date(k date primary key, v int);
create table k_dates(k date[] primary key, v int);
create table k_time(k time primary key, v int);
create table k_timestamp(k timestamp primary key, v int);
create table k_text(k text primary key, v int);
create table k_query(k tsquery primary key, v int);
create table k_pair(k tsquery, w int, v int, primary key (k, w));
create publication pub for all tables;
-- STREAM
insert into floats values (1, 9e9, 2e23), (2, 3.4028235e38, 8.41e21), (3, -33554432, -1e23), (4, 16777216, 9007199254740993), (5, 1e-45, 1.7976931348623157e308), (6, 8.5e-5, 123456789012345680);
-- TX
insert into arrs values (1, '{23:59:59.999999,00:00:00.0005,null}', '{23:59:59.999}', '{0-393-04002-X}', '{0/1}', '{1.50,null}', '1 2 3', '1 2', 'x'), (2, '{}', '{24:00}', '{0-393-04002-X,null}', '{0/1,null}', '{}', '', '', 'y'), (3, null, null, null, null, null, null, null, 'z');
-- TX
insert into days values (1, '0001-01-01', '9999-12-31 23:59:59.999'), (2, '1677-09-21 00:12:44', '2262-04-11 23:47:16'), (3, '1677-09-21 00:12:43', '2262-04-11 23:47:17');
-- TX
insert into titles values (1, 'x', 'y'), (2, 'x', null);
-- TX
insert into defs(id) values (1); insert into defs values (2, 1, null, null, null), (3, 1, '0101', 'sad', 10::numeric ^ 400 + 1); update defs set n = 2; delete from defs;
-- TX
insert into k_numeric values (1.50, 1); update k_numeric set k = -0.01; insert into k_double values ('Infinity', 1); update k_double set k = 'NaN'; insert into k_numerics values ('{1.50,null}', 1); update k_numerics set k = '{2}'; insert into k_doubles values ('{1.5,NaN}', 1); update k_doubles set k = '{1e22}'; insert into k_money values (1.5, 1); update k_money set k = -2;
-- TX
insert into k_date values ('infinity', 1); update k_date set k = '1960-01-01'; update k_date set k = '12345-06-07'; insert into k_dates values ('{2020-01-01}', 1); update k_dates set k = '{}'; insert into k_time values ('01:02:03.4', 1); update k_time set k = '24:00'; insert into k_timestamp values ('2020-01-01', 1); update k_timestamp set k = '1969-12-31 23:59:59.999'; update k_timestamp set k = '2020-01-01 00:00:00.001';
-- TX
insert into k_text values (E'a"b\\c\n\x01/é😀', 1); update k_text set k = ''; insert into k_query values ('a', 1); update k_query set k = 'b'; delete from k_query; insert into k_pair values ('a', 1, 1); update k_pair set k = 'b'; update k_pair set w = 2; delete from k_pair;
