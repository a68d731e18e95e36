"""A Dask cluster on the hosts of a pool: its certificates, its jobs, its end."""
