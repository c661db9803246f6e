"""The commands of data_prep, one a file: arguments in, a printed summary and an exit code out."""
