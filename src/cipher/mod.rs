//! Page encryption: CBC, CTR, GCM, byte for byte as MariaDB does it.
