"""Tools for people: volumes by hand, IAM and KMS policies, the doctor, and leftovers."""
