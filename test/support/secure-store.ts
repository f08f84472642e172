// What the case "secureStore" of kernel-cases.ts finds on a file system with fs-verity.

export const SECURE_STORE_RESULT = {
  secure: true,
  small: true,
  large: true,
  named: true,
  again: true,
  stream: true,
  image: true,
  immutable: "EPERM",
  withoutVerity: "verity-missing",
  hasBare: false,
  tolerated: "bare",
  healed: true,
  mistaken: "digest-mismatch",
  busy: true,
  resealed: true,
  temporary: [],
} as const;
