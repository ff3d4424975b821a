"""Running a plan: its passes, its executor, its spool, and what it says of itself."""
