"""From record files to tables: what is found, which runs are equal but for the seed, rows, and how a table is written."""
