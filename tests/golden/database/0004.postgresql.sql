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
CREATE TABLE public.fbt_judged_lists (
    case_id text NOT NULL,
    page text NOT NULL,
    content text NOT NULL,
    products json NOT NULL
);
CREATE TABLE public.fbt_judged_preferences (
    case_id text NOT NULL,
    page text NOT NULL,
    first text NOT NULL,
    second text NOT NULL,
    judge text NOT NULL,
    preferred text NOT NULL,
    judged_at timestamp with time zone NOT NULL
);
CREATE TABLE public.fbt_judged_shown (
    case_id text NOT NULL,
    page text NOT NULL,
    system text NOT NULL,
    content text NOT NULL
);
CREATE TABLE public.fbt_judgements (
    case_id text NOT NULL,
    page text NOT NULL,
    content text NOT NULL,
    judge text NOT NULL,
    state text NOT NULL,
    grade integer,
    reason text,
    judged_at timestamp with time zone NOT NULL
);
CREATE TABLE public.fbt_judging_cases (
    case_id text NOT NULL,
    name text NOT NULL,
    guidelines text NOT NULL,
    k integer NOT NULL,
    pages json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    updated_at timestamp with time zone NOT NULL
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
    after json,
    undoes bigint
);
CREATE TABLE public.fbt_rule_drafts (
    draft_id text NOT NULL,
    rule_id text NOT NULL,
    body json,
    base_revision bigint NOT NULL,
    created_by text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    version integer NOT NULL
);
CREATE TABLE public.fbt_rule_effects (
    rule_id text NOT NULL,
    day date NOT NULL,
    model_version text NOT NULL,
    n_applied bigint NOT NULL,
    n_moved bigint NOT NULL
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
INSERT INTO public.fbt_event_store VALUES ('5094d7b156b578b4a5fff2a04413e0ef');
INSERT INTO public.fbt_events_20260101 VALUES (1, 1767225600000000, '\x97ff01b7d305977af0333a8d116c54f0', '["e1","view_item_list",1767225600000000,1767225600000000,"anna","r1",null,[["milk",0,1.0,1.5],["jam",1,null,null]]]');
INSERT INTO public.fbt_events_20260101 VALUES (2, 1767225600000000, '\x97ff01b7d305977af0333a8d116c54f0', '["e2","purchase",1767225600000000,1767225600000000,"anna","r1","o1",[["milk",0,1.0,1.5]]]');
INSERT INTO public.fbt_judged_lists VALUES ('8db874e7f92d', 'tea', 'a1', '["milk","sugar"]');
INSERT INTO public.fbt_judged_lists VALUES ('8db874e7f92d', 'tea', 'b2', '["milk","jam"]');
INSERT INTO public.fbt_judged_preferences VALUES ('8db874e7f92d', 'tea', 'a1', 'b2', 'ann', 'a1', '2026-01-01 00:00:00+00');
INSERT INTO public.fbt_judged_shown VALUES ('8db874e7f92d', 'tea', '7', 'a1');
INSERT INTO public.fbt_judged_shown VALUES ('8db874e7f92d', 'tea', '8', 'b2');
INSERT INTO public.fbt_judgements VALUES ('8db874e7f92d', 'tea', 'a1', 'ann', 'graded', 3, NULL, '2026-01-01 00:00:00+00');
INSERT INTO public.fbt_judging_cases VALUES ('8db874e7f92d', 'first', 'Be strict.', 2, '["tea"]', '2026-11-30 16:30:27.442086+00', 'ann', '2026-11-30 16:30:27.442086+00');
INSERT INTO public.fbt_product_changes VALUES ('salt', '{}', true, 6, '2026-11-30 16:30:27.145788+00');
INSERT INTO public.fbt_product_changes VALUES ('milk', '{"name":"Milk","price":1.5}', false, 6, '2026-11-30 16:30:27.145788+00');
INSERT INTO public.fbt_recommendation_blocks_20261130 VALUES (3, 1796056230508099, 1, '[["r1", 1767225600000000, "anna", "recommend", "product_page", "7", "default", null, 1.0, ["tea"], ["milk", "jam"], ["model", "model"], ["pin"], null, false, null, null, [["x"], []]]]');
INSERT INTO public.fbt_revision VALUES (1, 'f05b7dae2e864894818fb19ffc88e854', 6, 5);
INSERT INTO public.fbt_rule_changes VALUES (1, '2026-11-30 16:30:24.872508+00', 'ann', 'add', 'a0a76852aa11488aa01e28b803be2746', NULL, '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}', NULL);
INSERT INTO public.fbt_rule_changes VALUES (2, '2026-11-30 16:30:25.755535+00', 'ann', 'add', 'faec98f7c7b14dcbb808beef3b0dd3e6', NULL, '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}', NULL);
INSERT INTO public.fbt_rule_changes VALUES (3, '2026-11-30 16:30:26.537244+00', 'bob', 'replace', 'faec98f7c7b14dcbb808beef3b0dd3e6', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}', NULL);
INSERT INTO public.fbt_rule_changes VALUES (4, '2026-11-30 16:30:27.123541+00', 'bob', 'add', '6eed50551746446e9db1fdf7daadd9d8', NULL, '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}', NULL);
INSERT INTO public.fbt_rule_changes VALUES (5, '2026-11-30 16:30:27.131078+00', 'bob', 'delete', '6eed50551746446e9db1fdf7daadd9d8', '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}', NULL, NULL);
INSERT INTO public.fbt_rule_drafts VALUES ('ee28414ed571472cb90509b1bd94b2f9', 'a0a76852aa11488aa01e28b803be2746', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":2,"note":""}', 1, 'ann', '2026-11-30 16:30:27.150451+00', 1);
INSERT INTO public.fbt_rule_effects VALUES ('a0a76852aa11488aa01e28b803be2746', '2026-01-01', '7', 5, 3);
INSERT INTO public.fbt_rules VALUES ('a0a76852aa11488aa01e28b803be2746', '{"action":"block","target":{"brand":"Acme"},"note":"Ünïcode ☕"}', '2026-11-30 16:30:24.872508+00', '2026-11-30 16:30:24.872508+00', 'ann');
INSERT INTO public.fbt_rules VALUES ('faec98f7c7b14dcbb808beef3b0dd3e6', '{"action":"pin","target":{"product_id":"milk"},"when":{"product_id":"tea"},"position":3,"note":""}', '2026-11-30 16:30:25.755535+00', '2026-11-30 16:30:26.537244+00', 'ann');
INSERT INTO public.fbt_schema VALUES ('0004');
SELECT pg_catalog.setval('public.fbt_event_seq', 3, true);
ALTER TABLE ONLY public.fbt_event_ids
    ADD CONSTRAINT fbt_event_ids_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.fbt_judged_lists
    ADD CONSTRAINT fbt_judged_lists_pkey PRIMARY KEY (case_id, page, content);
ALTER TABLE ONLY public.fbt_judged_preferences
    ADD CONSTRAINT fbt_judged_preferences_pkey PRIMARY KEY (case_id, page, first, second, judge);
ALTER TABLE ONLY public.fbt_judged_shown
    ADD CONSTRAINT fbt_judged_shown_pkey PRIMARY KEY (case_id, page, system);
ALTER TABLE ONLY public.fbt_judgements
    ADD CONSTRAINT fbt_judgements_pkey PRIMARY KEY (case_id, page, content, judge);
ALTER TABLE ONLY public.fbt_judging_cases
    ADD CONSTRAINT fbt_judging_cases_name_key UNIQUE (name);
ALTER TABLE ONLY public.fbt_judging_cases
    ADD CONSTRAINT fbt_judging_cases_pkey PRIMARY KEY (case_id);
ALTER TABLE ONLY public.fbt_product_changes
    ADD CONSTRAINT fbt_product_changes_pkey PRIMARY KEY (product_id);
ALTER TABLE ONLY public.fbt_revision
    ADD CONSTRAINT fbt_revision_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.fbt_rule_changes
    ADD CONSTRAINT fbt_rule_changes_pkey PRIMARY KEY (revision);
ALTER TABLE ONLY public.fbt_rule_drafts
    ADD CONSTRAINT fbt_rule_drafts_one_each UNIQUE (rule_id, created_by);
ALTER TABLE ONLY public.fbt_rule_drafts
    ADD CONSTRAINT fbt_rule_drafts_pkey PRIMARY KEY (draft_id);
ALTER TABLE ONLY public.fbt_rule_effects
    ADD CONSTRAINT fbt_rule_effects_pkey PRIMARY KEY (rule_id, day, model_version);
ALTER TABLE ONLY public.fbt_rules
    ADD CONSTRAINT fbt_rules_pkey PRIMARY KEY (rule_id);
ALTER TABLE ONLY public.fbt_schema
    ADD CONSTRAINT fbt_schema_pkc PRIMARY KEY (version_num);
CREATE INDEX fbt_event_ids_received ON public.fbt_event_ids USING brin (received_us);
CREATE INDEX fbt_events_seq ON ONLY public.fbt_events USING btree (seq);
CREATE INDEX fbt_events_20260101_seq_idx ON public.fbt_events_20260101 USING btree (seq);
CREATE INDEX fbt_events_20260102_seq_idx ON public.fbt_events_20260102 USING btree (seq);
CREATE INDEX fbt_judgements_of_judge ON public.fbt_judgements USING btree (case_id, judge);
CREATE INDEX fbt_recommendation_blocks_seq ON ONLY public.fbt_recommendation_blocks USING btree (seq);
CREATE INDEX fbt_recommendation_blocks_20261130_seq_idx ON public.fbt_recommendation_blocks_20261130 USING btree (seq);
CREATE INDEX fbt_recommendation_blocks_20261201_seq_idx ON public.fbt_recommendation_blocks_20261201 USING btree (seq);
CREATE INDEX ix_fbt_product_changes_revision ON public.fbt_product_changes USING btree (revision);
CREATE INDEX ix_fbt_rule_changes_rule_id ON public.fbt_rule_changes USING btree (rule_id);
ALTER INDEX public.fbt_events_seq ATTACH PARTITION public.fbt_events_20260101_seq_idx;
ALTER INDEX public.fbt_events_seq ATTACH PARTITION public.fbt_events_20260102_seq_idx;
ALTER INDEX public.fbt_recommendation_blocks_seq ATTACH PARTITION public.fbt_recommendation_blocks_20261130_seq_idx;
ALTER INDEX public.fbt_recommendation_blocks_seq ATTACH PARTITION public.fbt_recommendation_blocks_20261201_seq_idx;
