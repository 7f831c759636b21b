"""Videos as references: tables, splits and mixtures of records."""
