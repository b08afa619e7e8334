"""Where the files of a repository lie: a folder, or an object store."""
