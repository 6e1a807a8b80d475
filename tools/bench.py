"Runs the benchmarks in place, or only the sections named (their headings, a part of each is enough) after what all of them need; saved after each cell, so that a later failure loses nothing."
import sys, time
from pathlib import Path
import nbformat, torch
from nbclient import NotebookClient

root = Path(__file__).parent.parent
path = root/'nbs/tutorials/benchmarks.ipynb'

def sections(cells):
    "Pairs of a section's heading and its code cells' numbers; what stands before the first heading is called ''."
    found = [('', [])]
    for i, c in enumerate(cells):
        if c.cell_type == 'markdown' and (heading := next((l[3:] for l in c.source.splitlines() if l.startswith('## ')), None)): found.append((heading, []))
        elif c.cell_type == 'code': found[-1][1].append(i)
    return found

def run(path, wanted):
    "Executes `path`'s first cells, its first section, whose bounds others are measured against, and the sections that hold one of `wanted`, all if there is none."
    nb = nbformat.read(path, as_version=4)
    found = [(name, cells) for name, cells in sections(nb.cells) if cells]
    if missing := [w for w in wanted if not any(w in name for name, _ in found)]:
        sys.exit(f'no section {", ".join(missing)}; there are: {", ".join(name for name, _ in found if name)}')
    client = NotebookClient(nb, timeout=None, resources=dict(metadata=dict(path=path.parent)))
    with client.setup_kernel():
        for k, (name, cells) in enumerate(found):
            asked = not wanted or any(w in name for w in wanted)
            if k > 1 and not asked: continue
            if name == 'On a GPU' and not torch.cuda.is_available():
                print(f'{name}: left as it is, for want of one', flush=True)
                continue
            start = time.perf_counter()
            for i in cells:
                before = nb.cells[i].outputs
                client.execute_cell(nb.cells[i], i)
                if k == 1 and not asked: nb.cells[i].outputs = before              # the tables that are not made anew were measured against these
                nbformat.write(nb, path)
            print(f'{name or "what all share"}: {time.perf_counter() - start:.0f} s', flush=True)

if __name__ == '__main__': run(path, [w.strip() for w in ' '.join(sys.argv[1:]).split(',') if w.strip()])
