// The image formats and who writes them (composefs.md 2.0, 2.12).
//
// Versions 0 and 1 exist in two dialects that agree byte for byte except in corner cases; version 2
// is composefs-rs' own (the dialect is ignored). Deployments: version 1, "rust".

export interface ErofsFormat {
  readonly version: 0 | 1 | 2;
  readonly dialect: "c" | "rust";
  /** What C does by default: version 0 becomes 1 when the tree has a whiteout. */
  readonly raisedByWhiteouts?: boolean;
}
