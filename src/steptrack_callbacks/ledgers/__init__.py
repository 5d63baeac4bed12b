"""Where completed steps are kept."""
