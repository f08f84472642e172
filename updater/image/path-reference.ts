// What stands after the colon of a transport whose images lie in files: "path[:name]" or "path[:@index]".
//
// containers-transports(5): the path ends at the first colon, and what follows belongs to the name, which
// may have colons and slashes of its own ("/usb/os.tar:example.com/os:v1"). Only when nothing lies at that
// path is a later colon tried: a directory may have a colon in its name.

import { existsSync } from "node:fs";
import { resolve } from "node:path";

export interface PathReference {
  readonly path: string;
  /** Null: the only image there is. */
  readonly choice: ImageChoice | null;
}

/** One of several images in the same place. */
export type ImageChoice =
  | { readonly kind: "name"; readonly name: string }
  /** Counted from 0, in the order in which the place lists them. */
  | { readonly kind: "index"; readonly index: number };

/** Looks at the disk when there is more than one way to read `image`. */
export function splitPathReference(
  image: string,
  exists: (path: string) => boolean = existsSync,
): PathReference {
  const ends: number[] = [];
  for (let at = image.indexOf(":"); at >= 0; at = image.indexOf(":", at + 1)) ends.push(at);
  const [first] = ends;
  if (first === undefined) return { path: image, choice: null };
  const end = [...ends, image.length].find((at) => exists(image.slice(0, at))) ?? first;
  return { path: image.slice(0, end), choice: parseChoice(image.slice(end + 1)) };
}

/** The same image from every working directory; names are left alone. */
export function absolutePathReference(image: string): string {
  const end = image.indexOf(":");
  return end < 0 ? resolve(image) : `${resolve(image.slice(0, end))}${image.slice(end)}`;
}

function parseChoice(text: string): ImageChoice | null {
  if (text === "") return null;
  const [, index] = /^@(\d{1,9})$/.exec(text) ?? [];
  return index === undefined
    ? { kind: "name", name: text }
    : { kind: "index", index: Number(index) };
}
