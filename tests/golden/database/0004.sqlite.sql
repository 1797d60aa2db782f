BEGIN TRANSACTION;
CREATE TABLE blocks (
    seq integer primary key autoincrement, received_us integer not null, n integer not null,
    body blob not null
);
INSERT INTO "blocks" VALUES(1,1796056221432768,1,X'5B5B227231222C20313736373232353630303030303030302C2022616E6E61222C20227265636F6D6D656E64222C202270726F647563745F70616765222C202237222C202264656661756C74222C206E756C6C2C20312E302C205B22746561225D2C205B226D696C6B222C20226A616D225D2C205B226D6F64656C222C20226D6F64656C225D2C205B2270696E225D2C206E756C6C2C2066616C73652C206E756C6C2C206E756C6C2C205B5B2278225D2C205B5D5D5D5D');
CREATE TABLE events (
    seq integer primary key autoincrement, id blob not null unique, session blob,
    received_us integer not null, body text not null
);
INSERT INTO "events" VALUES(1,X'AFDD4403C41069DF839DBE2249F98AEE',X'97FF01B7D305977AF0333A8D116C54F0',1767225600000000,'["e1","view_item_list",1767225600000000,1767225600000000,"anna","r1",null,[["milk",0,1.0,1.5],["jam",1,null,null]]]');
INSERT INTO "events" VALUES(2,X'888425A8D90F862D15145E0240F59B29',X'97FF01B7D305977AF0333A8D116C54F0',1767225600000000,'["e2","purchase",1767225600000000,1767225600000000,"anna","r1","o1",[["milk",0,1.0,1.5]]]');
CREATE TABLE fbt_judged_lists (
	case_id TEXT NOT NULL, 
	page TEXT NOT NULL, 
	content TEXT NOT NULL, 
	products JSON NOT NULL, 
	PRIMARY KEY (case_id, page, content)
);
INSERT INTO "fbt_judged_lists" VALUES('5d20806de395','tea','a1','["milk","sugar"]');
INSERT INTO "fbt_judged_lists" VALUES('5d20806de395','tea','b2','["milk","jam"]');
CREATE TABLE fbt_judged_preferences (
	case_id TEXT NOT NULL, 
	page TEXT NOT NULL, 
	first TEXT NOT NULL, 
	second TEXT NOT NULL, 
	judge TEXT NOT NULL, 
	preferred TEXT NOT NULL, 
	judged_at DATETIME NOT NULL, 
	PRIMARY KEY (case_id, page, first, second, judge)
);
INSERT INTO "fbt_judged_preferences" VALUES('5d20806de395','tea','a1','b2','ann','a1','2026-01-01 00:00:00.000000');
CREATE TABLE fbt_judged_shown (
	case_id TEXT NOT NULL, 
	page TEXT NOT NULL, 
	system TEXT NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (case_id, page, system)
);
INSERT INTO "fbt_judged_shown" VALUES('5d20806de395','tea','7','a1');
INSERT INTO "fbt_judged_shown" VALUES('5d20806de395','tea','8','b2');
CREATE TABLE fbt_judgements (
	case_id TEXT NOT NULL, 
	page TEXT NOT NULL, 
	content TEXT NOT NULL, 
	judge TEXT NOT NULL, 
	state TEXT NOT NULL, 
	grade INTEGER, 
	reason TEXT, 
	judged_at DATETIME NOT NULL, 
	PRIMARY KEY (case_id, page, content, judge)
);
INSERT INTO "fbt_judgements" VALUES('5d20806de395','tea','a1','ann','graded',3,NULL,'2026-01-01 00:00:00.000000');
CREATE TABLE fbt_judging_cases (
	case_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	guidelines TEXT NOT NULL, 
	k INTEGER NOT NULL, 
	pages JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (case_id), 
	UNIQUE (name)
);
INSERT INTO "fbt_judging_cases" VALUES('5d20806de395','first','Be strict.',2,'["tea"]','2026-11-30 16:30:20.453197','ann','2026-11-30 16:30:20.453197');
CREATE TABLE fbt_product_changes (
	product_id TEXT NOT NULL, 
	card JSON NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	revision BIGINT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (product_id)
);
INSERT INTO "fbt_product_changes" VALUES('salt','{}',1,6,'2026-11-30 16:30:19.926569');
INSERT INTO "fbt_product_changes" VALUES('milk','{"name":"Milk","price":1.5}',0,6,'2026-11-30 16:30:19.926569');
CREATE TABLE fbt_revision (
	id INTEGER NOT NULL, 
	epoch TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	rules BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "fbt_revision" VALUES(1,'66ffeb9b303246a6a817dbca36489b52',6,5);
CREATE TABLE fbt_rule_changes (
	revision BIGINT NOT NULL, 
	changed_at DATETIME NOT NULL, 
	changed_by TEXT NOT NULL, 
	action TEXT NOT NULL, 
	rule_id TEXT NOT NULL, 
	"before" JSON, 
	"after" JSON, undoes BIGINT, 
	PRIMARY KEY (revision)
);
INSERT INTO "fbt_rule_changes" VALUES(1,'2026-11-30 16:30:19.099795','ann','add','f060d79bfec8481996dbcc1343dcdfd3',NULL,'{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}',NULL);
INSERT INTO "fbt_rule_changes" VALUES(2,'2026-11-30 16:30:19.425973','ann','add','a9c0ecb876f1411fa858d7dad3219559',NULL,'{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}',NULL);
INSERT INTO "fbt_rule_changes" VALUES(3,'2026-11-30 16:30:19.569420','bob','replace','a9c0ecb876f1411fa858d7dad3219559','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}',NULL);
INSERT INTO "fbt_rule_changes" VALUES(4,'2026-11-30 16:30:19.689543','bob','add','8dba98a1774a4f3e87b96ef2d0a17a1c',NULL,'{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}',NULL);
INSERT INTO "fbt_rule_changes" VALUES(5,'2026-11-30 16:30:19.830675','bob','delete','8dba98a1774a4f3e87b96ef2d0a17a1c','{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}',NULL,NULL);
CREATE TABLE fbt_rule_drafts (
	draft_id TEXT NOT NULL, 
	rule_id TEXT NOT NULL, 
	body JSON, 
	base_revision BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (draft_id), 
	CONSTRAINT fbt_rule_drafts_one_each UNIQUE (rule_id, created_by)
);
INSERT INTO "fbt_rule_drafts" VALUES('73643035d9ea48d1a83f4106a6d4e3ef','f060d79bfec8481996dbcc1343dcdfd3','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}',1,'ann','2026-11-30 16:30:20.317345',1);
CREATE TABLE fbt_rule_effects (
	rule_id TEXT NOT NULL, 
	day DATE NOT NULL, 
	model_version TEXT NOT NULL, 
	n_applied BIGINT NOT NULL, 
	n_moved BIGINT NOT NULL, 
	PRIMARY KEY (rule_id, day, model_version)
);
INSERT INTO "fbt_rule_effects" VALUES('f060d79bfec8481996dbcc1343dcdfd3','2026-01-01','7',5,3);
CREATE TABLE fbt_rules (
	rule_id TEXT NOT NULL, 
	body JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	PRIMARY KEY (rule_id)
);
INSERT INTO "fbt_rules" VALUES('f060d79bfec8481996dbcc1343dcdfd3','{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}','2026-11-30 16:30:19.099795','2026-11-30 16:30:19.099795','ann');
INSERT INTO "fbt_rules" VALUES('a9c0ecb876f1411fa858d7dad3219559','{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}','2026-11-30 16:30:19.425973','2026-11-30 16:30:19.569420','ann');
CREATE TABLE fbt_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT fbt_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "fbt_schema" VALUES('0004');
CREATE TABLE store (id text not null);
INSERT INTO "store" VALUES('18aa7b01d223400da035700ff4e42ce7');
CREATE INDEX ix_fbt_product_changes_revision ON fbt_product_changes (revision);
CREATE INDEX ix_fbt_rule_changes_rule_id ON fbt_rule_changes (rule_id);
CREATE INDEX fbt_judgements_of_judge ON fbt_judgements (case_id, judge);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',2);
INSERT INTO "sqlite_sequence" VALUES('blocks',1);
COMMIT;
