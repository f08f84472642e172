// Dictionaries of type a{sv}: commit metadata, detached metadata, the records in /run/ostree.
//
// They stay lists in the order of the bytes: checksums and signatures cover it.

import { decodeGVariant } from "./decode.ts";
import { encodeGVariant } from "./encode.ts";
import type { GVariant, Variant } from "./value.ts";

export type Dictionary = readonly (readonly [key: string, value: Variant])[];

export function decodeDictionary(bytes: Uint8Array): Dictionary {
  return decodeGVariant("a{sv}", bytes) as unknown as Dictionary;
}

export function encodeDictionary(dictionary: Dictionary): Uint8Array {
  return encodeGVariant("a{sv}", dictionary as unknown as GVariant);
}

/** The value of the first such key when it has this type, else null: GLib's lookup. */
export function lookup(dictionary: Dictionary, key: string, type: string): GVariant | null {
  const found = dictionary.find(([name]) => name === key)?.[1];
  return found?.type === type ? found.value : null;
}

export function lookupString(dictionary: Dictionary, key: string): string | null {
  return lookup(dictionary, key, "s") as string | null;
}

export function lookupBoolean(dictionary: Dictionary, key: string): boolean | null {
  return lookup(dictionary, key, "b") as boolean | null;
}
