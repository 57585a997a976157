"""Many cases: `cases` finds them, `work` does one, `local` many at a time, `cohort` all from the input to the table."""
