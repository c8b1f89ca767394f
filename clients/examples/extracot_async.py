"""Our own client, asynchronous: several budgets at once, and a stream that is left early."""

import asyncio

from extracot_client import AnswerDelta, AsyncExtracot, ExtracotAPIError

PROBLEM = "What is 12 * 12?"


async def main() -> None:
    """Server and key come from EXTRACOT_BASE_URL and EXTRACOT_API_KEY."""
    async with AsyncExtracot() as client:
        budgets = [0.2, 0.6, "native"]
        solutions = await asyncio.gather(
            *(client.solve(PROBLEM, budget=budget) for budget in budgets)
        )
        for budget, solution in zip(budgets, solutions, strict=True):
            print(budget, solution.report.reasoning_tokens, solution.boxed)

        async with client.stream(PROBLEM, budget="native") as stream:
            async for event in stream:
                if isinstance(event, AnswerDelta):
                    break  # Leaving the block aborts the rest on the server.
        print("left at the first word of the answer")

        try:
            await client.solve(PROBLEM, budget=1.2)
        except ExtracotAPIError as error:
            print("refused:", error.status, error.param)


if __name__ == "__main__":
    asyncio.run(main())
