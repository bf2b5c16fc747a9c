"""Work handed to several servers at once, and its results in order."""

from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Thread
from typing import TypeVar

from tqdm import tqdm

from .client import ServerError

Found = TypeVar("Found")


class Queue:
    """Numbers below `count`, smallest first. One that a lost server gives back goes to another, so nobody is done while
    anything is still being made."""

    def __init__(self, count: int):
        self.left, self.being_made, self.ended, self.changed = deque(range(count)), 0, False, Condition()

    def __iter__(self) -> Iterator[int]:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.ended or self.left or not self.being_made)
                if self.ended or not self.left:
                    return
                number = self.left.popleft()
                self.being_made += 1
            yield number

    def finish(self, *given_back: int, end: bool = False) -> None:
        with self.changed:
            self.left.extendleft(given_back)
            self.being_made -= 1
            self.ended |= end
            self.changed.notify_all()


def spread(servers: list, count: int, work: Callable[..., Found], unit: str) -> list[Found]:
    """[work(server, number) for every number below count], each server doing one at a time.

    A server that is lost (ServerError) leaves its number to the others, and the error is raised where none is left.
    Any other error ends all. Ctrl-C ends it with the first numbers that are done, and is raised where none is.
    """
    queue, done, errors = Queue(count), {}, []
    with tqdm(total=count, desc="stories" if unit == "story" else f"{unit}s", unit=unit) as bar:

        def serve(server) -> None:
            for number in queue:
                try:
                    done[number] = work(server, number)
                except BaseException as error:
                    lost = isinstance(error, ServerError)
                    errors.append(error)
                    queue.finish(*[number] * lost, end=not lost)
                    return
                queue.finish()
                bar.update()

        try:
            run_all(servers, serve)
        except KeyboardInterrupt as interrupt:
            queue.ended = True
            errors.append(interrupt)
    return in_order(done, count, errors)


def run_all(servers: list, serve: Callable) -> None:
    """In this thread where there is one server; else each in its own."""
    if len(servers) == 1:
        return serve(servers[0])
    threads = [Thread(target=serve, args=(server,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a join without an end would hold Ctrl-C back
            thread.join(0.2)


def in_order(done: dict[int, Found], count: int, errors: list[BaseException]) -> list[Found]:
    """Results 0, 1, ... as far as they reach without a gap."""
    fatal = [error for error in errors if not isinstance(error, (ServerError, KeyboardInterrupt))]
    if fatal:
        raise fatal[0]
    reached = next((number for number in range(count) if number not in done), count)
    interrupted = [error for error in errors if isinstance(error, KeyboardInterrupt)]
    if reached < count and not (interrupted and reached):
        raise (interrupted or errors)[0]
    if reached < count:
        print(f"\nInterrupted: the table is over {reached} of {count}; the same command goes on from here.", flush=True)
    return [done[number] for number in range(reached)]
