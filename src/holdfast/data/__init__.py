"""What everything else passes on: `Example`, `Task`, `Suite`, `Environment`, `Row`; chat, teacher prompts, seeds."""
