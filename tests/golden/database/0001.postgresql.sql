CREATE TABLE public.fbt_event_ids (
    id bytea NOT NULL,
    digest bytea NOT NULL,
    received_us bigint NOT NULL
);
CREATE SEQUENCE public.fbt_event_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.fbt_event_store (
    id text NOT NULL
);
CREATE TABLE public.fbt_events (
    seq bigint DEFAULT nextval('public.fbt_event_seq'::regclass) NOT NULL,
    received_us bigint NOT NULL,
    session bytea,
    body text NOT NULL
)
PARTITION BY RANGE (received_us);
CREATE TABLE public.fbt_events_20260101 (
    seq bigint DEFAULT nextval('public.fbt_event_seq'::regclass) NOT NULL,
    received_us bigint NOT NULL,
    session bytea,
    body text NOT NULL
);
CREATE TABLE public.fbt_events_20260102 (
    seq bigint DEFAULT nextval('public.fbt_event_seq'::regclass) NOT NULL,
    received_us bigint NOT NULL,
    session bytea,
    body text NOT NULL
);
CREATE TABLE public.fbt_product_changes (
    product_id text NOT NULL,
    card json NOT NULL,
    deleted boolean NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.fbt_recommendation_blocks (
    seq bigint DEFAULT nextval('public.fbt_event_seq'::regclass) NOT NULL,
    received_us bigint NOT NULL,
    n integer NOT NULL,
    body text NOT NULL
)
PARTITION BY RANGE (received_us);
CREATE TABLE public.fbt_recommendation_blocks_20261130 (
    seq bigint DEFAULT nextval('public.fbt_event_seq'::regclass) NOT NULL,
    received_us bigint NOT NULL,
    n integer NOT NULL,
    body text NOT NULL
);
CREATE TABLE public.fbt_recommendation_blocks_20261201 (
    seq bigint DEFAULT nextval('public.fbt_event_seq'::regclass) NOT NULL,
    received_us bigint NOT NULL,
    n integer NOT NULL,
    body text NOT NULL
);
CREATE TABLE public.fbt_revision (
    id integer NOT NULL,
    epoch text NOT NULL,
    value bigint NOT NULL,
    rules bigint NOT NULL
);
CREATE TABLE public.fbt_rule_changes (
    revision bigint NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    changed_by text NOT NULL,
    action text NOT NULL,
    rule_id text NOT NULL,
    before json,
    after json
);
CREATE TABLE public.fbt_rules (
    rule_id text NOT NULL,
    body json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    created_by text NOT NULL
);
CREATE TABLE public.fbt_schema (
    version_num character varying(32) NOT NULL
);
ALTER TABLE ONLY public.fbt_events ATTACH PARTITION public.fbt_events_20260101 FOR VALUES FROM ('1767225600000000') TO ('1767312000000000');
ALTER TABLE ONLY public.fbt_events ATTACH PARTITION public.fbt_events_20260102 FOR VALUES FROM ('1767312000000000') TO ('1767398400000000');
ALTER TABLE ONLY public.fbt_recommendation_blocks ATTACH PARTITION public.fbt_recommendation_blocks_20261130 FOR VALUES FROM ('1795996800000000') TO ('1796083200000000');
ALTER TABLE ONLY public.fbt_recommendation_blocks ATTACH PARTITION public.fbt_recommendation_blocks_20261201 FOR VALUES FROM ('1796083200000000') TO ('1796169600000000');
INSERT INTO public.fbt_event_ids VALUES ('\x888425a8d90f862d15145e0240f59b29', '\x537902544a3f309e2eaf29ac766594e3', 1767225600000000);
INSERT INTO public.fbt_event_ids VALUES ('\xafdd4403c41069df839dbe2249f98aee', '\xe34445c2fa0fcd75a157a999734b879f', 1767225600000000);
INSERT INTO public.fbt_event_store VALUES ('6add5b3dd95bc218cc1f0542bcea1059');
INSERT INTO public.fbt_events_20260101 VALUES (1, 1767225600000000, '\x97ff01b7d305977af0333a8d116c54f0', '["e1","view_item_list",1767225600000000,1767225600000000,"anna","r1",null,[["milk",0,1.0,1.5],["jam",1,null,null]]]');
INSERT INTO public.fbt_events_20260101 VALUES (2, 1767225600000000, '\x97ff01b7d305977af0333a8d116c54f0', '["e2","purchase",1767225600000000,1767225600000000,"anna","r1","o1",[["milk",0,1.0,1.5]]]');
INSERT INTO public.fbt_product_changes VALUES ('salt', '{}', true, 6, '2026-11-30 16:35:08.734992+00');
INSERT INTO public.fbt_product_changes VALUES ('milk', '{"name":"Milk","price":1.5}', false, 6, '2026-11-30 16:35:08.734992+00');
INSERT INTO public.fbt_recommendation_blocks_20261130 VALUES (3, 1796056509403286, 1, '[["r1", 1767225600000000, "anna", "recommend", "product_page", "7", "default", null, 1.0, ["tea"], ["milk", "jam"], ["model", "model"], ["pin"], null, false, null, null]]');
INSERT INTO public.fbt_revision VALUES (1, '6853653d592945b1a45129e66db04bc5', 6, 5);
INSERT INTO public.fbt_rule_changes VALUES (1, '2026-11-30 16:35:08.590475+00', 'ann', 'add', '2ae68b4569704cdcb1dd0e75279fe30f', NULL, '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}');
INSERT INTO public.fbt_rule_changes VALUES (2, '2026-11-30 16:35:08.612802+00', 'ann', 'add', '013ffb5cc2864be885e801feceadfe79', NULL, '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}');
INSERT INTO public.fbt_rule_changes VALUES (3, '2026-11-30 16:35:08.648999+00', 'bob', 'replace', '013ffb5cc2864be885e801feceadfe79', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}');
INSERT INTO public.fbt_rule_changes VALUES (4, '2026-11-30 16:35:08.674097+00', 'bob', 'add', '8786baf853c74e20b011487c809ee56f', NULL, '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}');
INSERT INTO public.fbt_rule_changes VALUES (5, '2026-11-30 16:35:08.702803+00', 'bob', 'delete', '8786baf853c74e20b011487c809ee56f', '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}', NULL);
INSERT INTO public.fbt_rules VALUES ('2ae68b4569704cdcb1dd0e75279fe30f', '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}', '2026-11-30 16:35:08.541521+00', '2026-11-30 16:35:08.541521+00', 'ann');
INSERT INTO public.fbt_rules VALUES ('013ffb5cc2864be885e801feceadfe79', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}', '2026-11-30 16:35:08.594495+00', '2026-11-30 16:35:08.642581+00', 'ann');
INSERT INTO public.fbt_schema VALUES ('0001');
SELECT pg_catalog.setval('public.fbt_event_seq', 3, true);
ALTER TABLE ONLY public.fbt_event_ids
    ADD CONSTRAINT fbt_event_ids_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.fbt_product_changes
    ADD CONSTRAINT fbt_product_changes_pkey PRIMARY KEY (product_id);
ALTER TABLE ONLY public.fbt_revision
    ADD CONSTRAINT fbt_revision_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.fbt_rule_changes
    ADD CONSTRAINT fbt_rule_changes_pkey PRIMARY KEY (revision);
ALTER TABLE ONLY public.fbt_rules
    ADD CONSTRAINT fbt_rules_pkey PRIMARY KEY (rule_id);
ALTER TABLE ONLY public.fbt_schema
    ADD CONSTRAINT fbt_schema_pkc PRIMARY KEY (version_num);
CREATE INDEX fbt_event_ids_received ON public.fbt_event_ids USING brin (received_us);
CREATE INDEX fbt_events_seq ON ONLY public.fbt_events USING btree (seq);
CREATE INDEX fbt_events_20260101_seq_idx ON public.fbt_events_20260101 USING btree (seq);
CREATE INDEX fbt_events_20260102_seq_idx ON public.fbt_events_20260102 USING btree (seq);
CREATE INDEX fbt_recommendation_blocks_seq ON ONLY public.fbt_recommendation_blocks USING btree (seq);
CREATE INDEX fbt_recommendation_blocks_20261130_seq_idx ON public.fbt_recommendation_blocks_20261130 USING btree (seq);
CREATE INDEX fbt_recommendation_blocks_20261201_seq_idx ON public.fbt_recommendation_blocks_20261201 USING btree (seq);
CREATE INDEX ix_fbt_product_changes_revision ON public.fbt_product_changes USING btree (revision);
CREATE INDEX ix_fbt_rule_changes_rule_id ON public.fbt_rule_changes USING btree (rule_id);
ALTER INDEX public.fbt_events_seq ATTACH PARTITION public.fbt_events_20260101_seq_idx;
ALTER INDEX public.fbt_events_seq ATTACH PARTITION public.fbt_events_20260102_seq_idx;
ALTER INDEX public.fbt_recommendation_blocks_seq ATTACH PARTITION public.fbt_recommendation_blocks_20261130_seq_idx;
ALTER INDEX public.fbt_recommendation_blocks_seq ATTACH PARTITION public.fbt_recommendation_blocks_20261201_seq_idx;
