"""Our own client, synchronous: a whole solution, a stream, and a small sweep."""

from extracot_client import AnswerDelta, Done, Extracot, ReasoningDelta

PROBLEM = "What is 12 * 12?"


def main() -> None:
    """Server and key come from EXTRACOT_BASE_URL and EXTRACOT_API_KEY."""
    with Extracot() as client:
        solution = client.solve(PROBLEM, budget=0.2)
        print("boxed:", solution.boxed)
        print("reasoning tokens:", solution.report.reasoning_tokens)
        print("saved (None where it is not known):", solution.report.saved_tokens_estimate)

        with client.stream(PROBLEM, budget=0.4) as stream:
            for event in stream:
                match event:
                    case ReasoningDelta(text) | AnswerDelta(text):
                        print(text, end="", flush=True)
                    case Done(solution):
                        print(f"\nfirst answer token after {solution.timings.first_answer:.3f} s")

        for row in client.sweep([PROBLEM, "What is 7 + 8?"], [0.2, "native"], concurrency=2):
            print(row.question, row.budget, row.reasoning_tokens, row.boxed)


if __name__ == "__main__":
    main()
