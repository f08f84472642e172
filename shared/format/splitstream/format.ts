// Splitstream: a byte stream in which large pieces are references to objects (composefs-rs).
//
// File: header (32), info (80, may grow), then four ranges the info names: stream references and
// object references (packed digests), named references and the stream itself (one zstd frame each).
// The stream: i64 n < 0 -> |n| literal bytes follow; n >= 0 -> the whole object number n.
// bootc up to 1.15 wrote the header with its fields in another order; both layouts are read.
// Source: reference/composefs-rs.md section 2.

import { bytes, constant, struct, u8, u16, u64, u64n } from "../../bytes/layout.ts";

export const MAGIC = "SplitStream";
export const HEADER_SIZE_BYTES = 32;
export const INFO_SIZE_BYTES = 80;

const BLOCK_SIZE_LOG2 = 12;

export const SplitStreamHeader = struct("splitstream_header", HEADER_SIZE_BYTES, {
  magic: bytes(MAGIC.length),
  version: constant(u8, 0),
  flags: u16,
  algorithm: u8,
  blockSizeLog2: constant(u8, BLOCK_SIZE_LOG2),

  infoStart: u64n,
  infoEnd: u64n,
});

/** The same fields as bootc <= 1.15 laid them out. */
export const OldSplitStreamHeader = struct("splitstream_header (old)", HEADER_SIZE_BYTES, {
  infoStart: u64n,
  infoEnd: u64n,

  flags: u16,
  magic: bytes(MAGIC.length),
  version: constant(u8, 0),
  algorithm: u8,
  blockSizeLog2: constant(u8, BLOCK_SIZE_LOG2),
});

export const SplitStreamInfo = struct("splitstream_info", INFO_SIZE_BYTES, {
  streamRefsStart: u64n,
  streamRefsEnd: u64n,

  objectRefsStart: u64n,
  objectRefsEnd: u64n,

  streamStart: u64n,
  streamEnd: u64n,

  namedRefsStart: u64n,
  namedRefsEnd: u64n,

  contentType: u64,
  /** Literal and referenced bytes together: the size of the reconstructed stream. */
  streamSize: u64n,
});

/** Eight ASCII characters as a little-endian u64. */
export type ContentType = "ocilayer" | "ociconfg" | "ocimanif" | "oci_blob";

export function encodeContentType(type: ContentType): bigint {
  return Buffer.from(type, "latin1").readBigUInt64LE();
}
