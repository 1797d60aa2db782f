-- A role and a database of the service's own, beside MLflow's; neither may look at the other's.
-- Run again, it only sets the password anew, which is that of FBT_PASSWORD.
\getenv password FBT_PASSWORD
SELECT 'CREATE ROLE fbt LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fbt') \gexec
ALTER ROLE fbt PASSWORD :'password';
SELECT 'CREATE DATABASE fbt OWNER fbt'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'fbt') \gexec
REVOKE ALL ON DATABASE fbt, mlflow FROM PUBLIC;
