import type { Mapping } from '../../../image/mapping.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import type { Header } from '../header.js';
import { Refcounts } from './refcounts.js';

/**
 * Tells preallocated clusters from written ones for a map of the image. An image made with metadata preallocation
 * maps every cluster, and only the host file's holes show which were never written. Asking the host for each extent
 * is slow, so this is done as QEMU does: only where clearly more clusters are in use than the host has allocated.
 */
export class Preallocation {
  private detected: boolean | undefined;

  constructor(
    private readonly storage: Storage,
    private readonly header: () => Header,
  ) {}

  /** Cuts a data mapping at the next change between data and hole of the host file, and marks holes as zero. */
  refine(mapping: Mapping & { kind: 'data' }): Mapping {
    this.detected ??= this.detect();
    const rest = this.detected ? mapping.storage.size() - mapping.offset : 0;
    if (!this.detected) return mapping;
    if (rest <= 0) return { ...mapping, zero: true };
    const run = mapping.storage.extent(mapping.offset);
    return { ...mapping, length: Math.min(mapping.length, run.length), zero: !run.data };
  }

  /** QEMU's rule: in use are at least 10/9 of the clusters the host has allocated, and at least two more. */
  private detect(): boolean {
    const header = this.header();
    const { clusterSize } = header;
    const real = Math.floor(this.storage.allocated() / clusterSize);
    const threshold = Math.max(Math.floor((real * 10) / 9), real + 2);
    const clusters = Math.ceil(this.storage.size() / clusterSize);
    try {
      return new Refcounts(this.storage, header).used(clusters, threshold) >= threshold;
    } catch (error) {
      // Damaged refcounts take nothing from a reader: the disk is mapped without this nicety.
      if (error instanceof ImgfsError) return false;
      throw error;
    }
  }
}
