// SPDX-License-Identifier: GPL-2.0
/* An object of its own, as one object can't be part of two modules. */
#include "helpers.c"
