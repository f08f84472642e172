// What verbs print through. Only program.ts makes one; tests pass their own.

export interface Terminal {
  /** Results, to stdout, as they are. */
  readonly write: (text: string) => void;
  /** One line to stdout; control characters in it, here and below, are shown as their numbers. */
  readonly line: (text: string) => void;
  /** One line about what is going on, to stderr. */
  readonly note: (text: string) => void;
  /** Text to stderr as it is, for a line that is drawn again and again. */
  readonly progress: (text: string) => void;
  /** Width of stderr; null when it is no terminal. */
  readonly columns: number | null;
  /** Whether stdout is a terminal: decides the format of `status`. */
  readonly isInteractive: boolean;
}
