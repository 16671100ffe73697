import { parseDocument } from 'yaml';

/** Changes settings in the text of a configuration file and keeps its comments; `path` as in `['listen', 0, 'address']`. */
export function withSettings(text: string, settings: readonly { path: readonly (string | number)[]; value: unknown }[]): string {
  const document = parseDocument(text);
  for (const { path, value } of settings) document.setIn(path, document.createNode(value));
  return document.toString({ lineWidth: 0 });
}
