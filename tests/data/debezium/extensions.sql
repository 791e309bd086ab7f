-- record extensions:
-- record extensions_schemas: key.converter.schemas.enable=true value.converter.schemas.enable=true hstore.handling.mode=map
-- record extensions_unknown: include.unknown.datatypes=true
create schema ext;
create extension hstore schema ext; create extension citext; create extension ltree; create extension isn; create extension cube; create extension seg; create extension lo; create extension intarray;
create table geo(id int primary key, p point, b box, s lseg, pa path, pg polygon, c circle, l line);
create table geoarr(id int primary key, p point[], b box[], pg polygon[], v text);
create table geonot(id int primary key, p point not null, b box not null, s lseg not null, pa path not null, pg polygon not null, c circle not null, l line not null);
create table geodef(id int primary key, p point default '(1,2)', b box default '(1,2),(0,0)', c circle default '<(1,2),3>', l line default '{1,2,3}', pa path default '[(0,0),(1,1)]');
create table ext(id int primary key, hs ext.hstore, hsa ext.hstore[], ci citext, cia citext[], lt ltree, lta ltree[], lq lquery, ltq ltxtquery);
create table isn(id int primary key, e ean13, i isbn, i13 isbn13, ism ismn, iss issn, u upc, ia isbn[]);
create table others(id int primary key, c cube, s seg, l lo, q query_int, v text);
create table extkey(ci citext, lt ltree, u uuid, d date, ts timestamptz, n numeric(4,1), b bytea, primary key(ci, lt, u, d, ts, n, b));
create domain mail as citext check (value like '%@%'); create domain short as varchar(4) not null default 'dom'; create domain deep as mail;
create type mood as enum('sad', 'it''s "ok"', 'a,b');
create domain mooded as mood;
create table domains(id int primary key, m mail, s short, d deep, e mood, em mooded, ea mood[], da mail[], en mood default 'sad');
create publication pub for all tables;
insert into geo values (1, '(1,1)', '(3,4),(1,2)', '[(0,0),(1,2)]', '[(0,0),(1,1),(2,0)]', '((0,0),(0,1),(1,0))', '<(1,2),3>', '{1,2,3}');
insert into ext values (1, 'a=>1', array['b=>2'::ext.hstore], 'CiTeXt', '{A,b}', 'Top.A', '{Top.A,Top.B}', 'Top.*', 'A & B');
-- STREAM
insert into geo values (2, '(-1.5,1e300)', '(0,0),(0,0)', '[(1.5,-2.5),(1.5,-2.5)]', '((0,0),(1,1),(2,0))', '((1.5,2.5))', '<(0,0),0>', '{0,-1,0.5}'), (3, null, null, null, null, null, null, null), (4, '(Infinity,NaN)', '(Infinity,1),(0,-Infinity)', '[(NaN,0),(0,Infinity)]', '[(1,2)]', '((0,0),(4,0),(4,4),(0,4))', '<(1e-5,1),1e10>', '[(0,0),(1,1)]');
-- TX
insert into geoarr values (1, '{"(1,2)","(3,4)"}', '{(3,4),(1,2);(1,1),(0,0)}', '{"((0,0),(0,1))"}', 'x');
-- TX
insert into geonot values (1, '(1,1)', '(3,4),(1,2)', '[(0,0),(1,2)]', '[(0,0),(1,1)]', '((0,0),(0,1))', '<(1,2),3>', '{1,2,3}'); delete from geonot;
-- TX
insert into geodef(id) values (1); insert into geodef values (2, null, null, null, null, null);
-- TX
insert into ext values (2, '"a b"=>"x\"y", n=>NULL, z=>"", ключ=>"й"', '{}', '', '{}', '', '{}', null, null), (3, null, null, null, null, null, null, null, null), (4, 'k1=>1,k2=>2,k3=>3,k4=>4,k5=>5,k6=>6,k7=>7,k8=>8,k9=>9,k10=>10,k11=>11,k12=>12,k13=>13,k14=>14', array['n=>NULL'::ext.hstore, null], 'x', array[null, 'Y'], 'a.b.c', array[null, 'a']::ltree[], null, null);
-- TX
insert into isn values (1, '4006381333931', '0-393-04002-X', '978-0-393-04002-9', '979-0-2600-0043-8', '1436-4522', '220356483481', '{0-393-04002-X}'), (2, null, null, null, null, null, null, null);
-- TX
insert into others values (1, '(1,2),(3,4)', '1.5 .. 2.5', 5, '1&2', 'x');
-- TX
insert into extkey values ('Key', 'a.b', '6f1c1f0e-1111-4222-8333-444455556666', '2020-01-01', '2020-01-01 01:02:03.4+00', 12.5, '\x00ff'); update extkey set ci = 'KEY2'; delete from extkey;
-- TX
insert into domains values (1, 'A@b', 'x', 'C@d', 'it''s "ok"', 'a,b', array['a,b', null, 'it''s "ok"']::mood[], '{a@b}', 'a,b'), (2, null, default, null, null, null, null, null, default); delete from domains where id = 2;
-- TX
alter type mood add value 'new'; create table later(id int primary key, e mood, hs ext.hstore);
-- TX
insert into domains(id, e) values (3, 'new'); insert into later values (1, 'new', 'a=>1');
