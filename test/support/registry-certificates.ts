// A private certificate authority made by openssl, and what it signs.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runImageTool } from "./image-tools.ts";

export interface ServerCertificate {
  readonly certificatePath: string;
  readonly keyPath: string;
}

export interface CertificateAuthority extends ServerCertificate {
  readonly directory: string;
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

export async function makeAuthority(
  directory: string,
  name: string,
): Promise<CertificateAuthority> {
  const certificatePath = join(directory, `${name}.crt`);
  const keyPath = join(directory, `${name}.key`);
  const subject = ["-subj", `/CN=${name}`, "-days", "30"];
  const files = ["-keyout", keyPath, "-out", certificatePath];
  await runImageTool(["openssl", "req", "-x509", ...NEW_KEY, ...subject, ...files]);
  return { directory, certificatePath, keyPath };
}

/** For a server with these names ("DNS:localhost", "IP:127.0.0.1"), or for a client with none. */
export async function makeCertificate(
  authority: CertificateAuthority,
  name: string,
  names: readonly string[],
  validity: readonly string[] = ["-days", "30"],
): Promise<ServerCertificate> {
  const { directory } = authority;
  const certificatePath = join(directory, `${name}.crt`);
  const keyPath = join(directory, `${name}.key`);
  const request = join(directory, `${name}.csr`);
  const extensions = join(directory, `${name}.ext`);
  const usage = names.length === 0 ? "clientAuth" : "serverAuth";
  const alternatives = names.length === 0 ? "" : `subjectAltName=${names.join(",")}\n`;
  writeFileSync(extensions, `extendedKeyUsage=${usage}\n${alternatives}`);
  const subject = ["-subj", `/CN=${name}`];
  await runImageTool([
    "openssl",
    "req",
    "-new",
    ...NEW_KEY,
    ...subject,
    "-keyout",
    keyPath,
    "-out",
    request,
  ]);
  const signer = ["-CA", authority.certificatePath, "-CAkey", authority.keyPath, "-CAcreateserial"];
  const files = ["-in", request, "-out", certificatePath, "-extfile", extensions];
  await runImageTool(["openssl", "x509", "-req", ...validity, ...signer, ...files]);
  return { certificatePath, keyPath };
}

/** A key and a certificate for signing tokens, RSA because docker-registry's tokens say RS256. */
export async function makeSigner(directory: string): Promise<ServerCertificate> {
  const certificatePath = join(directory, "signer.crt");
  const keyPath = join(directory, "signer.key");
  const what = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=token server", "-days", "30"];
  const files = ["-keyout", keyPath, "-out", certificatePath];
  await runImageTool(["openssl", "req", "-x509", ...what, ...files]);
  return { certificatePath, keyPath };
}
