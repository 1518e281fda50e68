"""One function per figure; each returns what it drew on."""
