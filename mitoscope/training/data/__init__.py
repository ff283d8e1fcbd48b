"""Public data sets → one table and one array of crops."""
