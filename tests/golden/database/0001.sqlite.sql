BEGIN TRANSACTION;
CREATE TABLE blocks (
    seq integer primary key autoincrement, received_us integer not null, n integer not null,
    body blob not null
);
INSERT INTO "blocks" VALUES(1,1796056508114073,1,X'5B5B227231222C20313736373232353630303030303030302C2022616E6E61222C20227265636F6D6D656E64222C202270726F647563745F70616765222C202237222C202264656661756C74222C206E756C6C2C20312E302C205B22746561225D2C205B226D696C6B222C20226A616D225D2C205B226D6F64656C222C20226D6F64656C225D2C205B2270696E225D2C206E756C6C2C2066616C73652C206E756C6C2C206E756C6C5D5D');
CREATE TABLE events (
    seq integer primary key autoincrement, id blob not null unique, session blob,
    received_us integer not null, body text not null
);
INSERT INTO "events" VALUES(1,X'AFDD4403C41069DF839DBE2249F98AEE',X'97FF01B7D305977AF0333A8D116C54F0',1767225600000000,'["e1","view_item_list",1767225600000000,1767225600000000,"anna","r1",null,[["milk",0,1.0,1.5],["jam",1,null,null]]]');
INSERT INTO "events" VALUES(2,X'888425A8D90F862D15145E0240F59B29',X'97FF01B7D305977AF0333A8D116C54F0',1767225600000000,'["e2","purchase",1767225600000000,1767225600000000,"anna","r1","o1",[["milk",0,1.0,1.5]]]');
CREATE TABLE fbt_product_changes (
	product_id TEXT NOT NULL, 
	card JSON NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	revision BIGINT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (product_id)
);
INSERT INTO "fbt_product_changes" VALUES('salt','{}',1,6,'2026-11-30 16:35:07.990926');
INSERT INTO "fbt_product_changes" VALUES('milk','{"name":"Milk","price":1.5}',0,6,'2026-11-30 16:35:07.990926');
CREATE TABLE fbt_revision (
	id INTEGER NOT NULL, 
	epoch TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	rules BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "fbt_revision" VALUES(1,'6330a30fdac343cfa32288422f7fe29a',6,5);
CREATE TABLE fbt_rule_changes (
	revision BIGINT NOT NULL, 
	changed_at DATETIME NOT NULL, 
	changed_by TEXT NOT NULL, 
	action TEXT NOT NULL, 
	rule_id TEXT NOT NULL, 
	"before" JSON, 
	"after" JSON, 
	PRIMARY KEY (revision)
);
INSERT INTO "fbt_rule_changes" VALUES(1,'2026-11-30 16:35:07.793747','ann','add','156cb7c89d094a4c881c843fa2fe0d72',NULL,'{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}');
INSERT INTO "fbt_rule_changes" VALUES(2,'2026-11-30 16:35:07.828162','ann','add','7196e35568da404b85aa1d96ef4ad4d0',NULL,'{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}');
INSERT INTO "fbt_rule_changes" VALUES(3,'2026-11-30 16:35:07.865591','bob','replace','7196e35568da404b85aa1d96ef4ad4d0','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}');
INSERT INTO "fbt_rule_changes" VALUES(4,'2026-11-30 16:35:07.925359','bob','add','02588cc012db42e0b2262a7b13b59e33',NULL,'{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}');
INSERT INTO "fbt_rule_changes" VALUES(5,'2026-11-30 16:35:07.946121','bob','delete','02588cc012db42e0b2262a7b13b59e33','{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}',NULL);
CREATE TABLE fbt_rules (
	rule_id TEXT NOT NULL, 
	body JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	PRIMARY KEY (rule_id)
);
INSERT INTO "fbt_rules" VALUES('156cb7c89d094a4c881c843fa2fe0d72','{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}','2026-11-30 16:35:07.749089','2026-11-30 16:35:07.749089','ann');
INSERT INTO "fbt_rules" VALUES('7196e35568da404b85aa1d96ef4ad4d0','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}','2026-11-30 16:35:07.817062','2026-11-30 16:35:07.857836','ann');
CREATE TABLE fbt_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT fbt_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "fbt_schema" VALUES('0001');
CREATE TABLE store (id text not null);
INSERT INTO "store" VALUES('f999caa829f4436bb32f1efc46272353');
CREATE INDEX ix_fbt_product_changes_revision ON fbt_product_changes (revision);
CREATE INDEX ix_fbt_rule_changes_rule_id ON fbt_rule_changes (rule_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',2);
INSERT INTO "sqlite_sequence" VALUES('blocks',1);
COMMIT;
