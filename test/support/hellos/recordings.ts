import { readdirSync, readFileSync } from 'node:fs';

/** A ClientHello as a real client sent it; record.ts makes them anew. */
export interface Recording {
  /** The file's name without its ending. */
  name: string;
  client: string;
  options: string;
  hello: Buffer;
}

const folder = new URL('.', import.meta.url);

export const recordings: Recording[] = readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .toSorted()
  .map((file) => {
    const { client, options, hello } = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Record<'client' | 'options' | 'hello', string>;
    return { name: file.replace('.json', ''), client, options, hello: Buffer.from(hello, 'base64') };
  });
