"""What differs between operating systems: secrets, folders, one running instance per profile."""
