/*
  What keyward uses of MariaDB's plugin ABI, for bindgen. The declarations themselves come from the
  distribution's server headers (Debian: libmariadbd-dev).
*/
#define MYSQL_DYNAMIC_PLUGIN 1

#include <stddef.h>
#include <stdint.h>
#include <mysql/plugin_encryption.h>
#include <typelib.h>

/*
  A system variable has another C type for each value type. The headers only have macros that
  declare type and variable together, so the types that keyward needs are spelled out here.
*/
struct keyward_sysvar_str {
  MYSQL_PLUGIN_VAR_HEADER;
  char **value;
  const char *def_val;
};

struct keyward_sysvar_longlong {
  MYSQL_PLUGIN_VAR_HEADER;
  long long *value;
  long long def_val;
  long long min_val;
  long long max_val;
  long long blk_sz;
};

struct keyward_sysvar_int {
  MYSQL_PLUGIN_VAR_HEADER;
  int *value;
  int def_val;
  int min_val;
  int max_val;
  int blk_sz;
};

struct keyward_sysvar_uint {
  MYSQL_PLUGIN_VAR_HEADER;
  unsigned int *value;
  unsigned int def_val;
  unsigned int min_val;
  unsigned int max_val;
  unsigned int blk_sz;
};

struct keyward_sysvar_bool {
  MYSQL_PLUGIN_VAR_HEADER;
  char *value;
  char def_val;
};

struct keyward_sysvar_enum {
  MYSQL_PLUGIN_VAR_HEADER;
  unsigned long *value;
  unsigned long def_val;
  TYPELIB *typelib;
};
