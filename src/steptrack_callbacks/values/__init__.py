"""What is declared, charged, recorded, raised and shown: frozen values of the standard library."""
