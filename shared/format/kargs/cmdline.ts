// Kernel command lines: split as the kernel does, edited parameter by parameter.
//
// Parameters are separated by white space; a double quote protects white space until the next one and
// there are no escapes (kernel lib/cmdline.c, next_arg). Keys are compared with '-' and '_' equal, as
// the kernel's parameters are. Text that is not edited is kept byte for byte.

import { FormatError } from "../../error.ts";

export interface Parameter {
  readonly key: string;
  /** Without its quotes; null for a bare word. */
  readonly value: string | null;
  /** As written, quotes included. */
  readonly text: string;
}
export type Cmdline = readonly Parameter[];

export function parseCmdline(text: string): Cmdline {
  // An unclosed quote runs to the end, as in the kernel.
  const words = text.match(/(?:"[^"]*(?:"|$)|[^\s"])+/g) ?? [];
  return words.map(parseParameter);
}

/**
 * Arguments that are going to be joined with others. FormatError for a quote that is not closed, which
 * would swallow whatever comes next, and for line breaks, which boot entries cannot hold.
 */
export function parseArguments(text: string): Cmdline {
  const words = parseCmdline(text);
  const bad = words.find((word) => isOpenQuoted(word.text) || /[\0-\x1f\x7f]/.test(word.text));
  if (bad !== undefined) {
    throw unwritable(bad.text, ": close its quotes and leave out line breaks");
  }
  return words;
}

/** Whether a quote in it is not closed: what is joined to its end would be a part of it. */
export function isOpenQuoted(text: string): boolean {
  return text.split('"').length % 2 === 0;
}

export function formatCmdline(cmdline: Cmdline): string {
  return cmdline.map((parameter) => parameter.text).join(" ");
}

function parseParameter(text: string): Parameter {
  // The kernel drops a quote that opens the whole word ("a=b c") and quotes around the value (a="b c").
  const whole = text.startsWith('"') ? text.slice(1).replace(/"$/, "") : text;
  const equals = whole.indexOf("=");
  if (equals < 0) return { key: whole, value: null, text };
  const value = whole.slice(equals + 1);
  return {
    key: whole.slice(0, equals),
    value: value.startsWith('"') ? value.slice(1).replace(/"$/, "") : value,
    text,
  };
}

/** Quotes the value when it needs it; FormatError when it cannot be written at all. */
export function makeParameter(key: string, value: string | null): Parameter {
  if (!/^[^\s"=]+$/.test(key)) throw unwritable(key);
  if (value === null) return { key, value, text: key };
  if (/["\n\0]/.test(value)) throw unwritable(`${key}=${value}`);
  return { key, value, text: /\s/.test(value) ? `${key}="${value}"` : `${key}=${value}` };
}

function unwritable(text: string, hint = ""): FormatError {
  return new FormatError("bad-value", `"${text}" cannot be written as a kernel argument${hint}`, {
    format: "cmdline",
  });
}

/** Appends, unless an equal parameter is already there. */
export function addParameter(cmdline: Cmdline, parameter: Parameter): Cmdline {
  return hasParameter(cmdline, parameter) ? cmdline : appendParameter(cmdline, parameter);
}

/** Last of the kernel's: what follows a "--" is for init. */
export function appendParameter(cmdline: Cmdline, parameter: Parameter): Cmdline {
  const separator = cmdline.findIndex(({ text }) => text === "--");
  return separator < 0
    ? [...cmdline, parameter]
    : [...cmdline.slice(0, separator), parameter, ...cmdline.slice(separator)];
}

/** Removes every parameter with this key and value. */
export function removeParameter(cmdline: Cmdline, parameter: Parameter): Cmdline {
  return cmdline.filter((other) => !sameParameter(other, parameter));
}

/** The first parameter with the key gets the new value in its place, further ones go; else appended. */
export function replaceParameter(cmdline: Cmdline, parameter: Parameter): Cmdline {
  const first = cmdline.findIndex((other) => sameKey(other, parameter));
  if (first < 0) return appendParameter(cmdline, parameter);
  return cmdline.flatMap((other, index) => {
    if (index === first) return [parameter];
    return sameKey(other, parameter) ? [] : [other];
  });
}

/** Every value of a key, in order; bare words give null. */
export function parameterValues(cmdline: Cmdline, key: string): readonly (string | null)[] {
  return findParameters(cmdline, key).map((other) => other.value);
}

export function hasParameter(cmdline: Cmdline, parameter: Parameter): boolean {
  return cmdline.some((other) => sameParameter(other, parameter));
}

/** What `after` has and `before` has not, in order; of several equal ones as many as there are more. */
export function subtractParameters(after: Cmdline, before: Cmdline): Cmdline {
  const left = [...before];
  return after.filter((parameter) => {
    const index = left.findIndex((other) => sameParameter(other, parameter));
    if (index < 0) return true;
    left.splice(index, 1);
    return false;
  });
}

/** The parameters of a key, in order. */
export function findParameters(cmdline: Cmdline, key: string): Cmdline {
  return cmdline.filter((other) => sameKey(other, { key }));
}

function sameKey(a: { readonly key: string }, b: { readonly key: string }): boolean {
  return a.key.replaceAll("-", "_") === b.key.replaceAll("-", "_");
}

function sameParameter(a: Parameter, b: Parameter): boolean {
  return sameKey(a, b) && a.value === b.value;
}
