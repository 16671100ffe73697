/** A fenced block of a Markdown page. `line` is that of its first line in the page, from 1. */
export interface Block {
  language: string;
  lines: string[];
  line: number;
}

export function blocks(page: string): Block[] {
  const all: Block[] = [];
  let open: Block | undefined;
  for (const [i, text] of page.split('\n').entries()) {
    const fence = /^```(\w*)$/.exec(text);
    if (fence && open) open = undefined;
    else if (fence) all.push((open = { language: fence[1]!, lines: [], line: i + 2 }));
    else open?.lines.push(text);
  }
  return all;
}

/** A command of a console block (`$ …`, with `\` at the end of a line that goes on) and the output shown below it; or Ctrl-C (`^C`). */
export interface Command {
  text: string;
  shown: string[];
  line: number;
}

export function commands({ lines, line }: Block): Command[] {
  const all: Command[] = [];
  for (const [i, text] of lines.entries()) {
    const last = all.at(-1);
    if (text.startsWith('$ ')) all.push({ text: text.slice(2), shown: [], line: line + i });
    else if (text === '^C') all.push({ text, shown: [], line: line + i });
    else if (last?.text.endsWith('\\') && last.shown.length === 0) last.text += `\n${text}`;
    else if (last) last.shown.push(text);
    else throw new Error(`line ${line + i}: a console block begins with "$ " or "^C"`);
  }
  return all;
}

/** The files of the repository that a page links to. */
export function fileLinks(page: string): string[] {
  return [...page.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, file]) => file!);
}
