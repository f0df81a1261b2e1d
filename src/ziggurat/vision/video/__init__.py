"""Networks of videos."""
