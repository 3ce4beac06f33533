"""The wider world: questions in steps, a second language, quests with tools, songs. Its base is `lab-wide`."""
