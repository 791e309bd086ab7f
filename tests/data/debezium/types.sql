-- record types:
-- record types_schemas: key.converter.schemas.enable=true value.converter.schemas.enable=true
create extension if not exists hstore; create extension if not exists citext; create extension if not exists ltree;
create type mood as enum('sad','ok','happy'); create domain posint as int check(value>0); create domain money2 as numeric(10,2);
create type pair as (a int, b text);
create table ints(id int primary key, s smallint, i int, b bigint, o oid, ss smallserial, bs bigserial, bo boolean, dm posint);
create table floats(id int primary key, r real, d double precision);
create table nums(id int primary key, n2 numeric(10,2), n0 numeric(5,0), n20 numeric(38,10), n numeric, m money, dm money2);
create table texts(id int primary key, c char(5), v varchar(10), t text, ci citext, n name, u uuid, x xml, j json, jb jsonb, e mood, lt ltree, tsv tsvector, q "char");
create table bins(id int primary key, ba bytea, b1 bit(1), b7 bit(7), vb varbit, vb5 varbit(5));
create table times(id int primary key, d date, t time, t3 time(3), t0 time(0), tz timetz, ts timestamp, ts3 timestamp(3), ts0 timestamp(0), tstz timestamptz, tstz3 timestamptz(3), tstz0 timestamptz(0), iv interval);
create table nets(id int primary key, i inet, c cidr, m macaddr, m8 macaddr8, ir int4range, br int8range, nr numrange, dr daterange);
create table arrs(id int primary key, i int[], b bigint[], t text[], n numeric(10,2)[], nn numeric[], d date[], ts timestamptz[], u uuid[], bo boolean[], f float8[], j jsonb[], e mood[]);
create table geo(id int primary key, p point, hs hstore);
create table comp(id int primary key, p pair, tq tsquery, l pg_lsn, keep text);
create table notnulls(id int primary key, s smallint not null, i int not null, b bigint not null, r real not null, d double precision not null, n numeric(8,3) not null, nn numeric not null, bo boolean not null, t text not null, v varchar(3) not null, by bytea not null, dt date not null, ti time not null, ts timestamp not null, tz timestamptz not null, iv interval not null, j jsonb not null, u uuid not null, ar int[] not null, e mood not null);
create table defs(id int primary key, a int default 5, b text default 'dflt', c timestamptz default now(), d numeric(6,2) default 1.5, e boolean default true, f int not null default 9, g date default '2020-01-02', h text default upper('x'), i jsonb default '{"k":1}', j numeric default 2.50, k bigint default 10000000000, l real default 1.25);
create publication pub for all tables;
insert into ints values (1,1,2,3,4,5,6,true,7);
insert into nums values (1,1.10,12345,1.5,10.1111,'$1,234.11',3.3);
insert into times values (1,'2016-11-04','13:51:30.123456','13:51:30.123','13:51:30','13:51:30.123789+02','2016-11-04T13:51:30.123456','2016-11-04T13:51:30.123','2016-11-04T13:51:30','2016-11-04T13:51:30.123456+02','2016-11-04T13:51:30.123+02','2016-11-04T13:51:30+02','1 year 2 mons 3 days 04:05:06.78');
insert into arrs values (1,'{1,2,null}','{10000000000}','{a,"b c",null,"q\"x"}','{1.2,3.4}','{1.1,22.22}','{2016-11-04}','{2016-11-04T13:51:30+02}','{6f1c1f0e-1111-4222-8333-444455556666}','{t,f}','{1,2.5}','{"{\"a\": 1}"}','{ok,sad}');
insert into geo values (1,'(1,1)','"key"=>"val"');
insert into comp values (1,'(1,x)','fat & rat','0/16B3748','kept');
insert into defs(id) values (1);
-- STREAM
insert into ints values (2,-32768,-2147483648,-9223372036854775808,4294967295,1,1,false,1),(3,32767,2147483647,9223372036854775807,0,1,1,null,null);
-- TX
insert into floats values (1,3.3,3),(2,1.5,0.1),(3,-0.25,1234567.5),(4,null,null),(5,100,1e6);
-- TX
insert into nums values (2,22.22,0,0.0000000001,22.2222,'-$1,234.11',-1.05),(3,-0.01,-5,-12345678901234567890.0123456789,10,'$0.00',0),(4,1.27,127,1.28,0,null,null),(5,-1.28,128,-1.29,100.00,null,null);
-- TX
insert into texts values (1,'ab','cd','line1'||chr(10)||chr(9)||chr(1)||chr(31)||chr(127)||'/"\ é漢😀','CiTeXt','nm','6f1c1f0e-1111-4222-8333-444455556666','<a>x</a>','{"b" : 1, "a":[1, 2]}','{"b" : 1, "a":[1, 2]}','happy','Top.Collections','a fat cat','q'),(2,'','','','','',null,null,'null','null',null,'','',null);
-- TX
insert into bins values (1,'\x010203','1','1010101','101','11'),(2,'','0','0000000','','1'),(3,null,null,null,'111011010001000110000001000000001','10000');
-- TX
insert into times values (2,'1970-01-01','00:00','00:00','00:00','00:00+00','1970-01-01','1970-01-01','1970-01-01','1970-01-01+00','1970-01-01+00','1970-01-01+00','0'),(3,'1936-10-25','23:59:59.999999','23:59:59.999','23:59:59','04:05:06+05:30','1936-10-25T22:10:12.608','1936-10-25T22:10:12.608','1936-10-25T22:10:12','2020-04-01T11:51:02Z','2020-04-01T11:51:02.5Z','2020-04-01T11:51:02Z','-1 day -00:00:01.5'),(4,null,null,null,null,null,null,null,null,null,null,null,null);
-- TX
insert into nets values (1,'192.168.2.0/12','192.168.100.128/25','08:00:2b:01:02:03','08:00:2b:01:02:03:04:05','[1000,6000)','[1,5]','[1.5,2.5)','[2019-03-31,2019-04-30)'),(2,'::1','2001:db8::/32',null,null,'empty','(,5)','[1,)',null);
-- TX
insert into arrs values (2,'{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}'),(3,null,null,null,null,null,null,null,null,null,null,null,null);
-- TX
insert into geo values (2,'(1.5,-2.25)','"a"=>NULL,"b"=>"q\"uo"'),(3,null,null),(4,'(0,0)','key4=>1,key5=>2,zeta=>3,alpha=>4');
-- TX
insert into comp values (2,null,null,null,'k2'); 
-- TX
insert into notnulls values (1,1,1,1,1,1,1,1,true,'a','b','\x01','2020-01-01','01:00','2020-01-01','2020-01-01','1 day','{}','6f1c1f0e-1111-4222-8333-444455556666','{1}','ok');
-- TX
delete from notnulls;
-- TX
insert into defs(id) values (2); insert into defs values (3,null,null,null,null,null,1,null,null,null,null,null,null);
-- TX
delete from defs where id=3;
