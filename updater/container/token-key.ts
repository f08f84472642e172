// Keys in PKCS#11 tokens (HSMs, smart cards), used through the program openssl and its provider "pkcs11"
// (packages openssl and pkcs11-provider): the key never leaves the token.
//
// - Keys are named as RFC 7512 does. PINs come from a file (pin-source) or are asked for on the terminal; one
//   in the URI itself (pin-value) would be seen by everybody who lists processes, and is refused.
// - openssl is configured by a file of ours, unless OPENSSL_CONF says otherwise. "no-deinit" in it: SoftHSM and
//   others bring openssl down when they are told to end.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StateError, UsageError } from "../../shared/error.ts";
import { parseTrustKeys } from "../../shared/format/trust/key.ts";
import { runProgram } from "../boot/program.ts";
import type { SigningKey } from "./signing-key.ts";

interface TokenKeyUri {
  /** What openssl is given. */
  readonly uri: string;
  /** The token's driver; null: the provider's default, or what PKCS11_PROVIDER_MODULE says. */
  readonly modulePath: string | null;
  /** For messages: the label or id, as the URI has it. */
  readonly name: string;
}

export function isTokenUri(name: string): boolean {
  return name.startsWith("pkcs11:");
}

/** Asks the token for the public half. StateError when openssl or the token refuse. */
export function openTokenKey(text: string): SigningKey {
  const token = parseTokenUri(text);
  const pem = runOpenssl(token, (directory) => {
    const out = join(directory, "public.pem");
    return { args: ["pkey", "-in", token.uri, "-pubout", "-out", out], out };
  });
  const [key] = parseTrustKeys(pem.toString("latin1"), token.name);
  return { key: key!, sign: (message) => signInToken(token, message), warnings: [] };
}

/** UsageError for what no key can be found by. */
function parseTokenUri(text: string): TokenKeyUri {
  const [path = "", query = ""] = text.slice("pkcs11:".length).split("?", 2);
  const attributes = readAttributes(path, ";");
  const options = readAttributes(query, "&");
  if (options.has("pin-value") || attributes.has("pin-value")) {
    throw badUri(
      "has a PIN in it that everybody who lists processes can read; use pin-source=file:PATH, or be asked",
    );
  }
  const name = attributes.get("object") ?? attributes.get("id");
  if (name === undefined) throw badUri(`"${text}" names no key; it needs object= or id=`);
  if (attributes.has("type") && attributes.get("type") !== "private") {
    throw badUri(`"${text}" names no private key`);
  }
  const parts = path.split(";").filter((each) => !each.startsWith("type="));
  const rest = query.split("&").filter((each) => each !== "" && !each.startsWith("module-path="));
  const uri = `pkcs11:${[...parts, "type=private"].join(";")}${rest.length > 0 ? `?${rest.join("&")}` : ""}`;
  const modulePath = options.get("module-path");
  return { uri, modulePath: modulePath === undefined ? null : decode(modulePath), name };
}

function decode(text: string): string {
  try {
    const path = decodeURIComponent(text);
    if (/^\/[^\0-\x1f\x7f$#\\"]*$/.test(path)) return path;
  } catch {
    // Not UTF-8, or "%" without two digits.
  }
  throw badUri(`has module-path=${text}, which is no absolute path of a driver`);
}

function readAttributes(text: string, separator: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const part of text.split(separator)) {
    if (part === "") continue;
    const [name, value] = part.split("=", 2);
    if (value === undefined) throw badUri(`has "${part}" in it, which is no attribute`);
    found.set(name!, value);
  }
  return found;
}

function signInToken(token: TokenKeyUri, message: Uint8Array): Uint8Array {
  return runOpenssl(token, (directory) => {
    const input = join(directory, "statement");
    const out = join(directory, "signature");
    writeFileSync(input, message);
    const args = ["pkeyutl", "-sign", "-rawin", "-inkey", token.uri, "-in", input, "-out", out];
    return { args, out };
  });
}

/** Runs it once, in a directory of its own; what it wrote to `out`. */
function runOpenssl(
  token: TokenKeyUri,
  prepare: (directory: string) => { readonly args: readonly string[]; readonly out: string },
): Buffer {
  const directory = mkdtempSync(join(tmpdir(), "bootc-token-"));
  try {
    const conf = join(directory, "openssl.cnf");
    writeFileSync(conf, formatConf(token.modulePath));
    const { args, out } = prepare(directory);
    runProgram("openssl", args, {
      package: "openssl",
      environment: { OPENSSL_CONF: process.env["OPENSSL_CONF"] ?? conf },
    });
    return readFileSync(out);
  } catch (cause) {
    if (!(cause instanceof StateError)) throw cause;
    throw new StateError(
      "command-failed",
      `Token key "${token.name}" cannot be used; see that pkcs11-provider is installed, that module-path= leads to the token's driver, and that key and PIN are right`,
      {},
      { cause },
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** openssl.cnf(5), provider-pkcs11(7). */
function formatConf(modulePath: string | null): string {
  return [
    "openssl_conf = bootc_init",
    "[bootc_init]",
    "providers = bootc_providers",
    "[bootc_providers]",
    "default = bootc_default",
    "pkcs11 = bootc_pkcs11",
    "[bootc_default]",
    "activate = 1",
    "[bootc_pkcs11]",
    ...(modulePath === null ? [] : [`pkcs11-module-path = ${modulePath}`]),
    "pkcs11-module-quirks = no-deinit",
    "activate = 1",
    "",
  ].join("\n");
}

function badUri(problem: string): UsageError {
  return new UsageError("bad-value", `The URI of --key ${problem}`);
}
