"""Who is measured: one file a package, each attached the way its own documentation says."""
