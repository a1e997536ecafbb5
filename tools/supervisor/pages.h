/* Text made from the verb tables: help, manual pages, completion scripts. */
#pragma once

#include "tools/supervisor/options.h"

#include <stdio.h>

void pages_help(FILE *out, const struct verb *verb); /* NULL: of the command */
void pages_group(FILE *out, const char *group);      /* the verbs of a group */
void pages_man(FILE *out, const struct verb *verb);  /* likewise */
int pages_completion(FILE *out, const char *shell);  /* -EINVAL for an unknown shell */
