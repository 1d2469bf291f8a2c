"""One machine, one command: embedded Postgres and S3, the API and the jobs, in one folder."""
