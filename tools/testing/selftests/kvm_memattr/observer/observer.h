/* SPDX-License-Identifier: GPL-2.0 */
/* Between the files of the observer module. */
#ifndef OBSERVER_H
#define OBSERVER_H

struct file_operations;
struct folio;

extern const struct file_operations observer_vm_fops;

/* Exported, but declared in mm/internal.h only: empties all batches of new folios. */
void shake_folio(struct folio *folio);

#endif /* OBSERVER_H */
