// SPDX-License-Identifier: GPL-2.0
/* An object is part of one module only: the same helpers for the KUnit module. */
#include "helpers.c"
